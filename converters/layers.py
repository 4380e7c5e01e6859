"""The layers of a quantized .tflite file: which operators round, their names, and what their tensors can hold."""

from __future__ import annotations

from collections import Counter

import numpy as np

from converters.mixed_graph import INPUT
from converters.tflite_file import Graph, Tensor
from device_agent.contract.errors import BadInput

PASSING = {"RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE", "PAD", "MAX_POOL_2D", "QUANTIZE", "DEQUANTIZE"}
"""Operators that pass on what they were given, so that they have no part in the noise."""


def noisy_layers(graph: Graph) -> list[int]:
    """Numbers of the operators that round, the input first.

    Raises:
        BadInput: there are none.
    """
    found = [
        number
        for number, each in enumerate(graph.operators)
        if each.kind not in PASSING and graph.tensors[each.outputs[0]].quantized
    ]
    if not found:
        raise BadInput("the file is not quantized: no operator of it gives integers with a scale")
    return [INPUT, *found] if graph.tensors[graph.inputs[0]].quantized else found


def output_of(graph: Graph, number: int) -> int:
    """The tensor that a layer gives."""
    return graph.inputs[0] if number == INPUT else graph.operators[number].outputs[0]


def layer_names(graph: Graph) -> dict[int, str]:
    """A name for each operator, and "input" for the input: as much of its tensor's name as tells it from the others.

    >>> from converters.tflite_file import Operator
    >>> names = "net/a/conv;net/block_1_expand_BN_1/batchnorm/sub1", "net/b/project/Conv2D", "net/c/project/Conv2D"
    >>> tensors = tuple(Tensor(name, (1,), "int8", np.ones(1), np.zeros(1), 0, None) for name in names)
    >>> operators = tuple(Operator("CONV_2D", 1, (), (number,), {}) for number in range(3))
    >>> list(layer_names(Graph(tensors, operators, (), (0,))).values())
    ['input', 'block_1_expand_BN_1', 'b/project', 'c/project']
    """
    parts = {number: _telling(graph.tensors[each.outputs[0]].name) for number, each in enumerate(graph.operators)}
    names = {number: each[-1] for number, each in parts.items()}
    for count in (2, 3):
        often = Counter(names.values())
        names = {
            number: "/".join(parts[number][-count:]) if often[name] > 1 else name for number, name in names.items()
        }
    often = Counter(names.values())
    return {INPUT: "input"} | {n: f"{name} {n}" if often[name] > 1 else name for n, name in names.items()}


def _telling(name: str) -> list[str]:
    parts = name.rpartition(";")[2].split("/")
    return [part for part in parts if part.rstrip("0123456789") not in _GENERIC] or parts


_GENERIC = {
    "", "batchnorm", "BatchNorm_Fold", "batch_norm", "BiasAdd", "ReadVariableOp", "resource", "sub", "Add", "mul",
    "Mul", "Relu", "Relu6", "convolution", "depthwise", "Conv2D", "Conv2D_Fold", "MatMul", "Mean", "bias", "truediv",
    "add", "FusedBatchNormV", "weights_quant", "FakeQuantWithMinMaxVars", "StatefulPartitionedCall", "hard_silu",
    "hard_sigmoid", "HardSwish",
}  # fmt: skip


def limits(tensor: Tensor) -> tuple[float, float]:
    """The least and the greatest value that a tensor with one scale can hold."""
    ends = np.iinfo(tensor.dtype)
    scale, zero_point = float(tensor.scale[0]), int(tensor.zero_point[0])
    return (int(ends.min) - zero_point) * scale, (int(ends.max) - zero_point) * scale


def kernel_of(graph: Graph, number: int) -> tuple[int, int]:
    """The tensors of kernel and bias of an operator, -1 where it has none."""
    operator = graph.operators[number]
    if operator.kind not in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
        return -1, -1
    kernel, bias = operator.inputs[1], operator.inputs[2] if len(operator.inputs) > 2 else -1
    return (kernel if graph.tensors[kernel].data is not None else -1), bias
