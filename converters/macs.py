"""Multiply-accumulates of an operator, in any of the three formats."""

from __future__ import annotations

import math

from converters.tflite_file import Graph, Operator

_WEIGHT_AXES = {
    "CONV_2D": slice(1, None),
    "DEPTHWISE_CONV_2D": slice(1, 3),
    "FULLY_CONNECTED": slice(1, None),
    "Conv": slice(1, None),
    "Convolution": slice(1, None),
    "GroupConvolution": slice(2, None),
}
"""Axes of the weights whose product is the multiplications for one number of the output."""
_PRODUCTS = {"BATCH_MATMUL", "MatMul", "Gemm"}
MULTIPLYING = _PRODUCTS | set(_WEIGHT_AXES)
"""Kinds that multiply two matrices, and so have two inputs."""


def macs(graph: Graph, operator: Operator) -> int:
    """Multiply-accumulates of one run, batch 1 where the batch is open; 0 for what does not multiply matrices."""
    made = math.prod(abs(size) for size in graph.tensors[operator.outputs[0]].shape)
    if operator.kind in _WEIGHT_AXES:
        return made * math.prod(graph.tensors[operator.inputs[1]].shape[_WEIGHT_AXES[operator.kind]])
    if operator.kind in _PRODUCTS:
        shape = graph.tensors[operator.inputs[0]].shape
        return made * (abs(shape[-2 if operator.options.get("transA") else -1]) if shape else 1)
    return 0


def parameter_bytes(graph: Graph, operator: Operator) -> int:
    """Bytes of the constants that an operator reads."""
    constants = (graph.tensors[each].data for each in dict.fromkeys(operator.inputs) if each >= 0)
    return sum(int(data.nbytes) for data in constants if data is not None)
