"""The scales of a shared file's activations: powers of two, one for the tensors of a sum, a code for each byte.

Integers do not know the unit of their tensor, so between convolutions it is free and a power of two costs nothing. What
is not free: the tensors of a sum get one scale together, and the ends of the graph keep the network's unit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from converters.shared.graph import LINEAR, clip_of
from converters.tflite_file import Graph, Operator
from device_agent import preprocess
from device_agent.contract.manifest import InputSpec

_PASSES = {"MEAN", "RESHAPE", "SQUEEZE"}
_SAME = {"RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE", "PAD", "MAX_POOL_2D", "AVERAGE_POOL_2D", "CONCATENATION"}
_SAME |= {"REDUCE_MAX", "STRIDED_SLICE", "SLICE", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"}
_PRESCRIBE = {"LOGISTIC", "SOFTMAX", "TANH", "L2_NORMALIZATION"}
GATE_STEP = float(np.float32(6 / 255))
GATE_CODE = 127
"""3 in steps of a gate, half a step too little: 6 is 255 of them."""


@dataclass
class Scale:
    """Of an activation: `real` in the units of the network, `label` as the file will say, the zero point, and what that
    stands for if it is not 0: `shift`, in the units of the network."""

    real: float
    label: float
    zero_point: int
    shift: float = 0.0


def choose(graph: Graph, ranges: dict[int, tuple[float, float]], spec: InputSpec) -> dict[int, Scale]:
    """New scales of all activations; `ranges` are least and largest values to be had of some of them, `spec` says what
    the input can be."""
    found = {
        number: Scale(float(tensor.scale[0]), float(tensor.scale[0]), int(tensor.zero_point[0]))
        for number, tensor in enumerate(graph.tensors)
        if tensor.quantized and tensor.data is None
    }
    for number, (low, high) in ranges.items():
        if number not in (*graph.inputs, *graph.outputs):
            _narrow(found[number], low, high)
    units, together, equal = _bind(graph, found)
    for members in equal:
        _equalise(graph, found, members)
    for members in together:
        common = max(found[number].real for number in members)
        for number in members:
            _set_scale(found[number], common)
    for number in next((each for each in equal if graph.inputs[0] in each), [graph.inputs[0]]):
        _take_whole(found[number], spec.offset, spec.offset + 255 * spec.scale)
    tied = {number for members in together for number in members}
    for operator in gates(graph):
        _open(found, operator.inputs[0], operator.outputs[0], free=operator.inputs[0] not in tied)
    for operator in graph.operators:
        if operator.kind == "MEAN":
            _part_halves(graph, found, operator, next((m for m in together if operator.outputs[0] in m), []))
    for members, sums in units:
        if any(_is_fixed(graph, number) for number in members):
            for number in members:
                found[number].label = found[number].real
            continue
        leader = found[(sums or members)[0]].real
        unit = 2.0 ** np.round(np.log2(leader)) / leader
        for number in members:
            found[number].label = float(np.float32(found[number].real * unit))
    for each in found.values():
        if is_power(each.label) and each.zero_point % 2:  # halves round to even before or after it is added
            each.zero_point += 1 if each.zero_point < 0 else -1
    _take_bytes(graph, found[graph.inputs[0]], spec)
    return found


def gates(graph: Graph) -> list[Operator]:
    """The sums relu6(x + 3) of hard-swish in an identical form: with a constant that no other operator reads."""
    found = [
        each
        for each in graph.operators
        if each.kind == "ADD"
        and graph.tensors[each.inputs[0]].data is None
        and (constant := graph.tensors[each.inputs[1]]).data is not None
        and constant.data.size == 1
        and abs(float(constant.values().ravel()[0]) - 3) < 0.02  # 2.988 where it was opened before
        and each.options.get("fusedActivationFunction") == 3
    ]
    return [each for each in found if all(graph.operators[n] in found for n in graph.readers[each.inputs[1]])]


def _open(found: dict[int, Scale], given: int, gate: int, *, free: bool) -> None:
    """A sum of whole steps, so that it rounds nowhere: LiteRT adds with multipliers of 20 bits, others in floats. What
    is given gets a multiple of the gate's scale, a little coarser than the best one."""
    found[gate] = Scale(GATE_STEP, GATE_STEP, -128)
    times = int(np.ceil(0.97 * found[given].real / GATE_STEP))
    if free and found[given].real > 0.7 * GATE_STEP:
        _set_scale(found[given], times * GATE_STEP)


def _take_whole(scale: Scale, low: float, high: float) -> None:
    """A power of two with which 256 steps hold every image: one that is darker than all that calibration saw must not
    saturate."""
    scale.real = scale.label = float(2.0 ** np.ceil(np.log2((high - low) / 256)))
    scale.zero_point = int(np.clip(-128 - np.round(low / scale.real), -128, 127))


def _take_bytes(graph: Graph, image: Scale, spec: InputSpec) -> None:
    """A code for each byte where 256 codes hold the image: what it stands for besides `label` is made up for by the
    weights and biases of the layers that read it."""
    linear = all(graph.operators[each].kind in LINEAR for each in graph.readers[graph.inputs[0]])
    codes = preprocess.table(spec, scale=image.label, zero_point=image.zero_point, dtype="int8")
    if linear and np.array_equal(codes, np.arange(-128, 128)):
        image.real, image.shift = spec.scale, spec.offset + spec.scale * (128 + image.zero_point)


def _part_halves(graph: Graph, found: dict[int, Scale], operator: Operator, tied: list[int]) -> None:
    """A mean in steps of an odd part of a whole one never comes near the middle of two integers, where LiteRT, which
    rounds it twice, goes the other way."""
    given, made = operator.inputs[0], operator.outputs[0]
    count = np.prod(graph.tensors[given].shape) / np.prod(graph.tensors[made].shape)
    real = found[given].real / count / odd_part(found[given].real / count / found[made].real)
    for number in tied or [made]:
        _set_scale(found[number], float(real))


def odd_part(ratio: float) -> float:
    """The largest fraction up to `ratio` with a small odd denominator.

    >>> odd_part(1 / 22.4) == 2 / 45, odd_part(0.51) == 26 / 51
    (True, True)
    """
    small = [int(ratio * whole) / whole for whole in range(3, 100, 2)]
    return float(max(*small, 1 / (2 * np.ceil((1 / ratio - 1) / 2) + 1)))


def _set_scale(scale: Scale, real: float) -> None:
    """Another scale at the same end of the range, that nearer to the zero point kept at its place."""
    low = (-128 - scale.zero_point) * scale.real
    scale.zero_point = int(np.clip(-128 - np.round(low / real), -128, 127))
    scale.real = scale.label = real


def _narrow(scale: Scale, low: float, high: float) -> None:
    """The range between two values within the one that it has."""
    low = max(min(low, 0.0), (-128 - scale.zero_point) * scale.real)
    high = min(max(high, 0.0), (127 - scale.zero_point) * scale.real)
    if high > low:
        scale.real = scale.label = (high - low) / 255
        scale.zero_point = int(np.clip(-128 - np.round(low / scale.real), -128, 127))


def is_power(scale: float) -> bool:
    return float(np.frexp(scale)[0]) == 0.5


def _equalise(graph: Graph, found: dict[int, Scale], members: list[int]) -> None:
    """One scale and zero point for tensors that an operator passes on as they are: the range that holds those of all.
    Where an operator prescribes one of them, they stay as the file has them."""
    makers = {graph.operators[graph.maker[each]].kind for each in members if each in graph.maker}
    low = min((-128 - found[each].zero_point) * found[each].real for each in members)
    high = max((127 - found[each].zero_point) * found[each].real for each in members)
    for each in members:
        tensor = graph.tensors[each]
        real, zero_point = float(tensor.scale[0]), int(tensor.zero_point[0])
        if not makers & _PRESCRIBE:
            real = (high - low) / 255
            zero_point = int(np.clip(-128 - np.round(low / real), -128, 127))
        found[each] = Scale(real, real, zero_point)


def _bind(
    graph: Graph, found: dict[int, Scale]
) -> tuple[list[tuple[list[int], list[int]]], list[list[int]], list[list[int]]]:
    """The tensors that have one unit, with those of them that are in a sum; those that must have one scale; those that
    must have one zero point too."""
    unit, scale, equal = ({number: number for number in found} for _ in range(3))

    def join(parent: dict[int, int], one: int, other: int) -> None:
        roots = [_root(parent, each) for each in (one, other)]
        parent[max(roots)] = min(roots)

    sums: set[int] = set()
    for operator in graph.operators:
        ends = [number for number in (*operator.inputs, *operator.outputs) if number in found]
        for number in ends[1:]:
            if operator.kind == "ADD" or operator.kind in _PASSES:
                join(unit, ends[0], number)
            if (operator.kind == "ADD" and len(ends) == 3) or operator.kind in _SAME:
                join(scale, ends[0], number)
            if operator.kind in _SAME:
                join(equal, ends[0], number)
        if operator.kind == "ADD" and len(ends) == 3:
            sums.update(ends)
    units = [(members, [each for each in members if each in sums]) for members in _sets(unit)]
    return units, _tied(scale), _tied(equal)


def _tied(parent: dict[int, int]) -> list[list[int]]:
    return [members for members in _sets(parent) if len(members) > 1]


def _root(parent: dict[int, int], number: int) -> int:
    while parent[number] != number:
        number = parent[number]
    return number


def _sets(parent: dict[int, int]) -> list[list[int]]:
    found: dict[int, list[int]] = {}
    for number in parent:
        found.setdefault(_root(parent, number), []).append(number)
    return list(found.values())


def _is_fixed(graph: Graph, number: int) -> bool:
    """Whether the unit of a tensor matters: at both ends of the graph, to an operator that is not linear, to a clip."""
    if number in graph.inputs or number in graph.outputs:
        return True
    around = [graph.operators[each] for each in graph.readers.get(number, [])]
    if number in graph.maker:
        maker = graph.operators[graph.maker[number]]
        around.append(maker)
        if clip_of(maker, graph.tensors[number]) is not None:
            return True
    fits = LINEAR | _PASSES
    return any(each.kind not in fits and not (each.kind == "ADD" and _sums_activations(graph, each)) for each in around)


def _sums_activations(graph: Graph, operator: Operator) -> bool:
    return all(graph.tensors[number].data is None for number in operator.inputs)
