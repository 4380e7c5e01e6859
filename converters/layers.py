"""The layers of a quantized .tflite file: which operators round, their names, and what their tensors can hold."""

from __future__ import annotations

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


def layer_name(graph: Graph, number: int) -> str:
    """The part of the tensor's name that tells one layer from the others.

    >>> from converters.tflite_file import Operator
    >>> name = "net/a/conv;net/block_1_expand_BN_1/batchnorm/sub1"
    >>> tensor = Tensor(name, (1,), "int8", np.ones(1), np.zeros(1), 0, None)
    >>> layer_name(Graph((tensor,), (Operator("CONV_2D", 1, (), (0,), {}),), (), (0,)), 0)
    'block_1_expand_BN_1'
    """
    parts = graph.tensors[output_of(graph, number)].name.rpartition(";")[2].split("/")
    telling = [part for part in parts if part.rstrip("0123456789").rstrip("_").lower() not in _GENERIC]
    return (telling or parts)[-1]


_GENERIC = {
    "", "batchnorm", "batchnorm_fold", "batch_norm", "biasadd", "readvariableop", "resource", "sub", "add", "mul",
    "relu", "relu6", "conv", "conv2d", "conv2d_fold", "convolution", "depthwise", "matmul", "mean", "bias", "truediv",
    "fusedbatchnormv", "weights_quant", "fakequantwithminmaxvars", "hard_silu", "hard_sigmoid", "activation",
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
