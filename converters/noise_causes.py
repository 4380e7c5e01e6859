"""Why a layer of a quantized file is noisy: what its figures point at, in words with the figures in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from converters.layer_noise import LayerNoise
from converters.mixed_graph import INPUT
from converters.tflite_file import Graph, Operator

USED = 0.5
LOST = 0.25
UNLIKE = 4.0
BIAS = 0.9


class Suspicion(NamedTuple):
    """A cause by name, the evidence in words, and the operators that it takes in."""

    cause: str
    evidence: str
    layers: tuple[int, ...]


def suspect(graph: Graph, layer: LayerNoise) -> Suspicion:
    """The first cause that fits the layer, in the order of `CAUSES`; "rounding" where none does."""
    for find in CAUSES:
        found = find(graph, layer)
        if found is not None:
            return found
    said = f"{layer.own_db:.0f} dB of its own, nothing about its ranges is unusual"
    return Suspicion("rounding", said, (layer.number,))


def gates_of(graph: Graph) -> list[tuple[int, ...]]:
    """The squeeze-and-excite branches: operators from the MEAN to the MUL by one value a channel."""
    found = []
    for number, operator in enumerate(graph.operators):
        if operator.kind == "MUL":
            gate = next((each for each in operator.inputs if _is_gate(graph, operator, each)), None)
            if gate is not None:
                found.append((*sorted(_branch(graph, gate)), number))
    return found


def _is_gate(graph: Graph, operator: Operator, tensor: int) -> bool:
    shape, result = graph.tensors[tensor].shape, graph.tensors[operator.outputs[0]].shape
    one = len(shape) == 4 and shape[1:3] == (1, 1) and shape[3] == result[3] and result[1:3] != (1, 1)
    return one and graph.tensors[tensor].data is None


def _branch(graph: Graph, tensor: int) -> set[int]:
    """Operators back from a gate to the mean that it is made of."""
    found: set[int] = set()
    left = [tensor]
    while left:
        number = graph.maker.get(left.pop())
        if number is None or number in found or graph.operators[number].kind in ("DEPTHWISE_CONV_2D",):
            continue
        found.add(number)
        if graph.operators[number].kind not in ("MEAN", "AVERAGE_POOL_2D"):
            left += [each for each in graph.operators[number].inputs if each >= 0]
    return found


def _input(graph: Graph, layer: LayerNoise) -> Suspicion | None:
    if layer.number != INPUT:
        return None
    said = f"the image's 256 levels are rounded once more, to steps from {layer.low:.3f} to {layer.high:.3f}"
    return Suspicion("input scale", said, (INPUT,))


def _hard_swish(graph: Graph, layer: LayerNoise) -> Suspicion | None:
    if layer.kind != "HARD_SWISH":
        return None
    all_ = tuple(number for number, each in enumerate(graph.operators) if each.kind == "HARD_SWISH")
    return Suspicion("hard-swish", f"{len(all_)} in the file; {layer.own_db:.0f} dB of its own", all_)


def _squeeze_excite(graph: Graph, layer: LayerNoise) -> Suspicion | None:
    gates = gates_of(graph)
    if not any(layer.number in gate for gate in gates):
        return None
    said = f"{layer.own_db:.0f} dB, {layer.used:.0%} of its range used; {len(gates)} such branches"
    return Suspicion("squeeze-excite scale", said, tuple(sorted({number for gate in gates for number in gate})))


def _fixed(graph: Graph, layer: LayerNoise) -> Suspicion | None:
    if layer.kind != "SOFTMAX":
        return None
    said = "its steps are 1/256 whatever the values are; a file that ends in logits has none"
    return Suspicion("scale of the softmax", said, (layer.number,))


def _bias(graph: Graph, layer: LayerNoise) -> Suspicion | None:
    if layer.bias < BIAS:
        return None
    return Suspicion("bias saturation", f"its largest bias is {layer.bias:.0%} of what int32 holds", (layer.number,))


def _weights(graph: Graph, layer: LayerNoise) -> Suspicion | None:
    if layer.weights_db > layer.own_db + 6:
        return None
    if layer.weight_scales == 1 and layer.weight_ratio > UNLIKE:
        said = f"one scale for kernels of which the widest is {layer.weight_ratio:.0f} times the median"
        return Suspicion("one weight scale for unlike channels", f"{said}: {layer.weights_db:.0f} dB", (layer.number,))
    said = f"its rounded weights alone have {layer.weights_db:.0f} dB, all of it {layer.own_db:.0f} dB"
    return Suspicion("weights", said, (layer.number,))


def _clipped(graph: Graph, layer: LayerNoise) -> Suspicion | None:
    if layer.clipped < 1e-4:
        return None
    said = f"{layer.clipped:.2%} of the values lie outside of {layer.low:.3g} to {layer.high:.3g}"
    return Suspicion("clipped range", said, (layer.number,))


def _outliers(graph: Graph, layer: LayerNoise) -> Suspicion | None:
    if layer.used >= USED:
        return None
    said = f"99.8 % of the values lie in {layer.used:.0%} of {layer.low:.3g} to {layer.high:.3g}"
    return Suspicion("range outliers", said, (layer.number,))


def _channels(graph: Graph, layer: LayerNoise) -> Suspicion | None:
    if layer.dead + layer.narrow < LOST * layer.channels or layer.channels < 8:
        return None
    said = f"of {layer.channels} channels {layer.dead} never change and {layer.narrow} take under 1/16 of the range"
    return Suspicion("dead or narrow channels", said, (layer.number,))


CAUSES: Sequence[Callable[[Graph, LayerNoise], Suspicion | None]] = (
    _input,
    _hard_swish,
    _squeeze_excite,
    _fixed,
    _bias,
    _weights,
    _clipped,
    _outliers,
    _channels,
)
"""In this order, the most telling first. A new cause is a function more, and a fix in `quantization_fixes.FIXES`."""
