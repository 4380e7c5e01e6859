"""What both translations of an int8 .tflite graph need to know of an operator."""

from __future__ import annotations

import numpy as np

from converters.tflite_file import FUSED, Graph, Operator, Tensor
from device_agent import preprocess
from device_agent.contract.errors import BadInput
from device_agent.contract.manifest import InputSpec

LINEAR = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}


class Unsupported(BadInput):
    """The shared scheme cannot carry this graph over; each runtime's own quantizer may."""


def clip_of(operator: Operator, out: Tensor) -> tuple[float, float] | None:
    """The bounds of a fused activation where the integers of `out` reach beyond them; None where they do not."""
    bounds = FUSED.get(operator.options.get("fusedActivationFunction", 0))
    if bounds is None:
        return None
    scale, zero_point = float(out.scale[0]), int(out.zero_point[0])
    low, high = (-128 - zero_point) * scale, (127 - zero_point) * scale
    return bounds if low < bounds[0] - scale / 2 or high > bounds[1] + scale / 2 else None


def image_range(graph: Graph, spec: InputSpec) -> tuple[float, float]:
    """What the first and the last code of the input stand for: a code for each byte where it has them.

    One definition with the table that `device_agent.preprocess` makes for LiteRT.
    """
    tensor = graph.tensors[graph.inputs[0]]
    scale, zero_point = float(tensor.scale[0]), int(tensor.zero_point[0])
    codes = preprocess.table(spec, scale=scale, zero_point=zero_point, dtype="int8")
    if np.array_equal(codes, np.arange(-128, 128)):
        return spec.offset, spec.offset + 255 * spec.scale
    return (-128 - zero_point) * scale, (127 - zero_point) * scale


def spread(shape: tuple[int, ...], rank: int) -> tuple[int, ...]:
    """The shape with which a tensor meets an output of so many dimensions, channels first: what has fewer of them goes
    along the channels, which stand last in the file.

    >>> spread((24,), 4), spread((1, 24), 4), spread((1, 24), 2), spread((), 4)
    ((1, 24, 1, 1), (1, 24, 1, 1), (1, 24), ())

    Raises:
        Unsupported: it goes along other sides too.
    """
    if rank != 4 or len(shape) in (0, 4):
        return shape
    if int(np.prod(shape)) != shape[-1]:
        raise Unsupported(f"the shared scheme cannot spread {shape} over a map")
    return (1, shape[-1], 1, 1)


def padding_of(operator: Operator, size: tuple[int, ...], kernel: tuple[int, int]) -> list[int]:
    """Top, left, bottom, right of padding "same" (0) or "valid" (1); `size` is (n, h, w, c)."""
    if operator.options["padding"] == 1:
        return [0, 0, 0, 0]
    strides = operator.options["strideH"], operator.options["strideW"]
    dilation = operator.options.get("dilationHFactor", 1), operator.options.get("dilationWFactor", 1)
    total = []
    for side, step, reach, spread in zip(size[1:3], strides, kernel, dilation, strict=True):
        total.append(max((-(-side // step) - 1) * step + (reach - 1) * spread + 1 - side, 0))
    return [total[0] // 2, total[1] // 2, total[0] - total[0] // 2, total[1] - total[1] // 2]


def check_quantized(graph: Graph) -> None:
    """Refuse a graph that is not int8 from its input to its output with fixed shapes.

    Raises:
        Unsupported: which tensor is not.
    """
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise Unsupported(
            f"the graph has {len(graph.inputs)} inputs and {len(graph.outputs)} outputs, must have one of each"
        )
    for each in graph.operators:
        for number in each.outputs:
            tensor = graph.tensors[number]
            if tensor.dtype != "int8" or not tensor.quantized or tensor.scale.size != 1:
                raise Unsupported(f"{each.kind} gives {tensor.name!r} as {tensor.dtype}, must be int8 with one scale")
            if -1 in tensor.shape:
                raise Unsupported(f"{each.kind} gives {tensor.name!r}, whose shape {tensor.shape} is not fixed")


def check_mean(graph: Graph, operator: Operator) -> None:
    """Refuse a MEAN that is not over height and width.

    Raises:
        Unsupported: over other axes.
    """
    x, axes = (graph.tensors[number] for number in operator.inputs)
    if len(x.shape) != 4 or axes.data is None or sorted(axes.data.ravel() % 4) != [1, 2]:
        raise Unsupported("the shared scheme has MEAN over height and width only")
