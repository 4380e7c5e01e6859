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
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.activations import Seen, estimator, observe
from converters.shared.graph import LINEAR, Unsupported, clip_of
from converters.shared.scales import GATE_CODE, GATE_STEP, Scale, choose, gates, is_power
from converters.shared.units import note
from converters.tflite_file import Graph, Operator, edit, read_graph
from device_agent.contract.errors import BadInput
from device_agent.contract.manifest import InputSpec

FRACTION = 15
"""Binary digits behind the point that a rescaled sum may have; with 9 before it, twice what an int8 can hold, it is a
float32. A product of scales gets at most 8 digits, more of them the larger it is."""
SUM = 2**22
"""What a bias may be as an integer: a sum has to fit float32. A channel whose weights are next to nothing and whose
bias is not (a dead one, after its normalisation was folded into it) gets a coarser scale for that."""


def make_exact(
    path: Path,
    float_path: Path,
    spec: InputSpec,
    images: Callable[[], Iterator[NDArray[np.float32]]] | None = None,
    *,
    ranges: str = "minmax",
    bias_correction: bool = True,
) -> None:
    """Rewrite the int8 file at `path` with such scales; `float_path` is the float file of the same network.

    `spec` says what the network's input can be. With calibration images, model inputs (1, h, w, c) float32, the ranges
    of the activations are estimated anew, and what rounding the weights adds to the mean of each output is taken back
    in its bias (Nagel et al. 2019, Data-free quantization through weight equalization and bias correction).

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
    scales = choose(graph, {} if ranges == "minmax" else _ranges(seen, ranges), spec)
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
        for number in {each.inputs[1] for each in gates(graph)}:
            _store(
                schema, model, number, np.full(1, GATE_STEP), np.full(graph.tensors[number].shape, GATE_CODE, np.int8)
            )
        note(schema, model, {number: each.real for number, each in scales.items()}, clips)
        for number in implied:
            main.operators[number].builtinOptions.fusedActivationFunction = 0
        for number, steps, data in (each for pair in weights for each in pair):
            _store(schema, model, number, steps, data)

    edit(path, change)


def _store(schema: Any, model: Any, number: int, steps: NDArray[np.float64], data: NDArray[Any]) -> None:
    """Put the integers of a constant into the file, with these scales around zero."""
    tensor, buffer = model.subgraphs[0].tensors[number], schema.BufferT()
    tensor.quantization.scale = steps.astype(np.float32).tolist()
    tensor.quantization.zeroPoint = [0] * len(steps)
    buffer.data = np.frombuffer(data.tobytes(), np.uint8)
    tensor.buffer = len(model.buffers)  # its own: tensors of equal content may share one
    model.buffers.append(buffer)


def _refuse_shared(kernels: list[Operator]) -> None:
    read = [operator.inputs[1] for operator in kernels]
    if len(set(read)) < len(read):
        raise Unsupported("a layer that is used more than once: its weights cannot have a scale for each use")


def _linear(graph: Graph) -> list[Operator]:
    return [each for each in graph.operators if each.kind in LINEAR]


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


def _quantize(
    graph: Graph,
    operator: Operator,
    scales: dict[int, Scale],
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
    if is_power(before.label) and is_power(after.label):
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
        bias = bias + before.shift * (integers * step).sum(axis=others).ravel()
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
