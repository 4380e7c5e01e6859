"""Scales that floating point cannot round, so that every runtime rounds to the same integers.

Between integers a runtime multiplies sums by in * weights / out, three scales, in whatever order and precision its
kernels like. Two runtimes then differ by one wherever a product comes near the middle of two integers, a few times an
image; the layers that follow make that many. Here activations get powers of two as scales and the products so few
digits that float32 holds every intermediate result exactly: there is nothing left to round differently.

That costs next to nothing, since integers do not know the unit of their tensor: between two convolutions it is free.
What is not free are the tensors of a residual sum, which get one scale together, and the weights' scales: of the two
next to the best with which the product has few digits, a channel gets the one that errs less; the weights are quantized
anew from the floats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.activations import Seen, estimator, observe
from converters.shared.graph import Unsupported, clip_of
from converters.shared.units import note
from converters.tflite_file import Graph, Operator, edit, read_graph
from device_agent.contract.errors import BadInput

FRACTION = 15
"""Binary digits behind the point that a rescaled sum may have; with 9 before it, twice what an int8 can hold, it is a
float32. A product of scales gets at most 8 digits, more of them the larger it is."""
SUM = 2**22
"""What a bias may be as an integer: a sum has to fit float32. A channel whose weights are next to nothing and whose
bias is not (a dead one, after its normalisation was folded into it) gets a coarser scale for that."""
_LINEAR = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}
_PASSES = {"MEAN", "RESHAPE", "SQUEEZE"}
_SAME = {"RESHAPE", "SQUEEZE"}


@dataclass
class _Scale:
    """Of an activation: `real` in the units of the network, `label` as the file will say, and the zero point."""

    real: float
    label: float
    zero_point: int


def make_exact(
    path: Path,
    float_path: Path,
    images: Callable[[], Iterator[NDArray[np.float32]]] | None = None,
    *,
    span: tuple[float, float] = (-1.0, 1.0),
    ranges: str = "minmax",
    bias_correction: bool = True,
) -> None:
    """Rewrite the int8 file at `path` with such scales; `float_path` is the float file of the same network.

    `span` is what the network's input can be. With calibration images, model inputs (1, h, w, c) float32, the ranges of
    the activations are estimated anew, and what rounding the weights adds to the mean of each output is taken back in
    its bias (Nagel et al. 2019, Data-free quantization through weight equalization and bias correction).

    Raises:
        BadInput: the files are not of one network.
        Unsupported: a layer is used more than once.
    """
    graph, floats = read_graph(path), read_graph(float_path)
    kernels = _linear(graph), _linear(floats)
    if [_shape(graph, each) for each in kernels[0]] != [_shape(floats, each) for each in kernels[1]]:
        raise BadInput(f"{float_path}: is not the float model of {path}")
    _refuse_shared(kernels[0])
    seen = _observe(float_path, graph, floats, kernels, images)
    scales = _choose(graph, {} if ranges == "minmax" else _ranges(seen, ranges), span)
    means = {number: each.means for number, each in seen.items()} if bias_correction else {}
    changes = {number: (each.label, each.zero_point) for number, each in scales.items()}
    weights = [
        _quantize(graph, operator, scales, floats, twin, means.get(operator.inputs[0]))
        for operator, twin in zip(*kernels, strict=True)
    ]
    implied = [number for number, each in enumerate(graph.operators) if _saturates(graph, each)]
    clips = {graph.operators[n].outputs[0]: graph.operators[n].options["fusedActivationFunction"] for n in implied}

    def change(schema: Any, model: Any) -> None:
        main = model.subgraphs[0]
        for number, (scale, zero_point) in changes.items():
            main.tensors[number].quantization.scale = [scale]
            main.tensors[number].quantization.zeroPoint = [zero_point]
        note(schema, model, {number: each.real for number, each in scales.items()}, clips)
        for number in implied:
            main.operators[number].builtinOptions.fusedActivationFunction = 0
        for number, steps, data in (each for pair in weights for each in pair):
            tensor, buffer = main.tensors[number], schema.BufferT()
            tensor.quantization.scale = steps.astype(np.float32).tolist()
            tensor.quantization.zeroPoint = [0] * len(steps)
            buffer.data = np.frombuffer(data.tobytes(), np.uint8)
            tensor.buffer = len(model.buffers)  # its own: tensors of equal content may share one
            model.buffers.append(buffer)

    edit(path, change)


def _refuse_shared(kernels: list[Operator]) -> None:
    read = [operator.inputs[1] for operator in kernels]
    if len(set(read)) < len(read):
        raise Unsupported("a layer that is used more than once: its weights cannot have a scale for each use")


def _linear(graph: Graph) -> list[Operator]:
    return [each for each in graph.operators if each.kind in _LINEAR]


def _shape(graph: Graph, operator: Operator) -> tuple[int, ...]:
    return graph.tensors[operator.inputs[1]].shape


def _saturates(graph: Graph, operator: Operator) -> bool:
    """Whether the operator's fused activation does nothing that the range of its integers does not."""
    fused = operator.options.get("fusedActivationFunction", 0)
    return fused != 0 and clip_of(operator, graph.tensors[operator.outputs[0]]) is None


def _observe(
    path: Path,
    graph: Graph,
    floats: Graph,
    kernels: tuple[list[Operator], list[Operator]],
    images: Callable[[], Iterator[NDArray[np.float32]]] | None,
) -> dict[int, Seen]:
    """What goes into and comes out of the linear operators of the float graph, by the numbers of the int8 graph."""
    if images is None:
        return {}
    pairs = zip(*kernels, strict=True)
    twin = {ends[0]: ends[1] for one, other in pairs for ends in _ends(one, other)}
    count = sum(1 for _ in images())
    seen = observe(path, floats, set(twin.values()), images(), count)
    return {number: seen[other] for number, other in twin.items()}


def _ends(one: Operator, other: Operator) -> list[tuple[int, int]]:
    return [(one.inputs[0], other.inputs[0]), (one.outputs[0], other.outputs[0])]


def _ranges(seen: dict[int, Seen], name: str) -> dict[int, tuple[float, float]]:
    estimate = estimator(name)
    return {number: estimate(each) for number, each in seen.items()}


def _choose(graph: Graph, ranges: dict[int, tuple[float, float]], span: tuple[float, float]) -> dict[int, _Scale]:
    """New scales of all activations; `ranges` are least and largest values to be had of some of them."""
    found = {
        number: _Scale(float(tensor.scale[0]), float(tensor.scale[0]), int(tensor.zero_point[0]))
        for number, tensor in enumerate(graph.tensors)
        if tensor.quantized and tensor.data is None
    }
    for number, (low, high) in ranges.items():
        if number not in (*graph.inputs, *graph.outputs):
            _narrow(found[number], low, high)
    units, together = _bind(graph, found)
    for members in together:
        common = max(found[number].real for number in members)
        for number in members:
            _set_scale(found[number], common)
    _take_whole(found[graph.inputs[0]], span)
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
        if _is_power(each.label) and each.zero_point % 2:  # halves round to even before or after it is added
            each.zero_point += 1 if each.zero_point < 0 else -1
    return found


def _take_whole(scale: _Scale, span: tuple[float, float]) -> None:
    """A power of two with which 256 steps hold every image: one that is darker than all that calibration saw must not
    saturate."""
    low, high = span
    scale.real = scale.label = float(2.0 ** np.ceil(np.log2((high - low) / 256)))
    scale.zero_point = int(np.clip(-128 - np.round(low / scale.real), -128, 127))


def _set_scale(scale: _Scale, real: float) -> None:
    """Another scale at the same end of the range, that nearer to the zero point kept at its place."""
    low = (-128 - scale.zero_point) * scale.real
    scale.zero_point = int(np.clip(-128 - np.round(low / real), -128, 127))
    scale.real = scale.label = real


def _narrow(scale: _Scale, low: float, high: float) -> None:
    """The range between two values within the one that it has."""
    low = max(min(low, 0.0), (-128 - scale.zero_point) * scale.real)
    high = min(max(high, 0.0), (127 - scale.zero_point) * scale.real)
    if high > low:
        scale.real = scale.label = (high - low) / 255
        scale.zero_point = int(np.clip(-128 - np.round(low / scale.real), -128, 127))


def _is_power(scale: float) -> bool:
    return float(np.frexp(scale)[0]) == 0.5


def _bind(graph: Graph, found: dict[int, _Scale]) -> tuple[list[tuple[list[int], list[int]]], list[list[int]]]:
    """The tensors that have one unit, with those of them that are in a sum; and those that must have one scale."""
    unit, scale = {number: number for number in found}, {number: number for number in found}

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
        if operator.kind == "ADD" and len(ends) == 3:
            sums.update(ends)
    units = [(members, [each for each in members if each in sums]) for members in _sets(unit)]
    return units, [members for members in _sets(scale) if len(members) > 1]


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
    fits = _LINEAR | _PASSES
    return any(each.kind not in fits and not (each.kind == "ADD" and _sums_activations(graph, each)) for each in around)


def _sums_activations(graph: Graph, operator: Operator) -> bool:
    return all(graph.tensors[number].data is None for number in operator.inputs)


def _quantize(
    graph: Graph,
    operator: Operator,
    scales: dict[int, _Scale],
    floats: Graph,
    twin: Operator,
    means: NDArray[np.float64] | None,
) -> list[tuple[int, NDArray[np.float64], NDArray[Any]]]:
    """Number, scale a channel and integers of the weights and of the bias."""
    before, after = scales[operator.inputs[0]], scales[operator.outputs[0]]
    old, real = graph.tensors[operator.inputs[1]], floats.tensors[twin.inputs[1]].values().astype(np.float64)
    along = old.axis if old.scale.size > 1 else None
    others = None if along is None else tuple(np.delete(np.arange(real.ndim), along))
    largest, bias = np.abs(real).max(axis=others, keepdims=True), _bias(floats, twin)
    offset = np.abs(bias).max() if along is None else np.abs(bias).reshape(largest.shape)
    smallest = np.maximum(np.maximum(largest / 127, offset / before.real / SUM), old.scale.min() * 1e-3)
    product, unit = smallest * before.real / after.real, after.real / before.real
    if _is_power(before.label) and _is_power(after.label):
        down, up = _few_bits(product, np.floor), _few_bits(product, np.ceil)
        errors = [((_rounded(real, each * unit) * each * unit - real) ** 2).sum(axis=others) for each in (down, up)]
        product = np.where((errors[0] < errors[1]).reshape(product.shape), down, up)
    step = product * unit
    integers = _rounded(real, step)
    label = product.ravel() * after.label / before.label
    made: list[tuple[int, NDArray[np.float64], NDArray[Any]]] = [(operator.inputs[1], label, integers.astype(np.int8))]
    if _has_bias(operator):
        if means is not None:
            bias = bias + _lost(operator, real - integers * step, means)
        sums = np.rint(bias / (step.ravel() * before.real)).astype(np.int32)
        made.append((operator.inputs[2], label * before.label, sums))
    return made


def _rounded(real: NDArray[np.float64], step: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.clip(np.rint(real / step), -127, 127)


def _has_bias(operator: Operator) -> bool:
    return len(operator.inputs) > 2 and operator.inputs[2] >= 0


def _bias(floats: Graph, operator: Operator) -> NDArray[np.float64]:
    """Of a linear operator of the float graph; zeros where it has none."""
    if _has_bias(operator):
        return floats.tensors[operator.inputs[2]].values().astype(np.float64)
    return np.zeros(floats.tensors[operator.outputs[0]].shape[-1])


def _lost(operator: Operator, error: NDArray[np.float64], means: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the rounding errors of the weights take from the mean of each output, given that of each input."""
    if operator.kind == "DEPTHWISE_CONV_2D":
        repeated = np.repeat(means, error.shape[3] // len(means))
        return np.asarray(error.sum(axis=(0, 1, 2)) * repeated)
    if operator.kind == "CONV_2D" and error.shape[3] != len(means):
        return np.zeros(error.shape[0])  # grouped
    return np.asarray(error.reshape(error.shape[0], -1, len(means)).sum(axis=1) @ means)


def _few_bits(values: NDArray[np.float64], towards: Any) -> NDArray[np.float64]:
    """The next values below (`np.floor`) or above (`np.ceil`) that have few binary digits.

    >>> _few_bits(np.array([1.0, 1.001, 2 / 3**8]), np.ceil).tolist() == [1.0, 1 + 2**-7, 5 * 2**-14]
    True
    """
    mantissa, exponent = np.frexp(values)
    steps = 2.0 ** np.clip(FRACTION + exponent, 2, 8)
    return np.asarray(np.ldexp(towards(mantissa * steps) / steps, exponent))
