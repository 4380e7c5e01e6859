"""HARD_SWISH of a quantized .tflite file, written as products and sums that every kernel library has.

x * clip(x / 6 + 1/2, 0, 1) is the same function (Howard et al. 2019, Searching for MobileNetV3); the clip is what the
ends of int8 do. LiteRT's XNNPACK has no int8 HARD_SWISH, so that each of them breaks the network in two.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from converters.tflite_file import edit, read_graph


def rewrite(path: Path) -> int:
    """Rewrite every int8 HARD_SWISH of the file in place; how many there were.

    Raises:
        NotFound, BadInput: as for `read_graph`.
    """
    graph = read_graph(path)
    numbers = [
        number
        for number, each in enumerate(graph.operators)
        if each.kind == "HARD_SWISH" and graph.tensors[each.inputs[0]].dtype == "int8"
    ]

    def change(schema: Any, model: Any) -> None:
        main, made = model.subgraphs[0], []
        sixth = _constant(schema, model, "sixth", 1 / 6)
        half = _constant(schema, model, "half", 1 / 2)
        codes = {kind: _code(schema, model, kind) for kind in ("MUL", "ADD")}
        for number, operator in enumerate(main.operators):
            if number not in numbers:
                made.append(operator)
                continue
            given, result = int(operator.inputs[0]), int(operator.outputs[0])
            scale = graph.tensors[given].scale[0]
            part = _activation(schema, model, given, "sixth", float(scale) / 6, int(graph.tensors[given].zero_point[0]))
            gate = _activation(schema, model, given, "gate", 1 / 255, -128)
            made.append(_operator(schema, codes["MUL"], schema.MulOptionsT(), "Mul", [given, sixth], part))
            made.append(_operator(schema, codes["ADD"], schema.AddOptionsT(), "Add", [part, half], gate))
            made.append(_operator(schema, codes["MUL"], schema.MulOptionsT(), "Mul", [given, gate], result))
        main.operators = made

    if numbers:
        edit(path, change)
    return len(numbers)


def _constant(schema: Any, model: Any, name: str, value: float) -> int:
    buffer = schema.BufferT()
    buffer.data = np.array([127], np.int8).view(np.uint8)
    model.buffers.append(buffer)
    tensor = _tensor(schema, name, [1], value / 127, 0)
    tensor.buffer = len(model.buffers) - 1
    model.subgraphs[0].tensors.append(tensor)
    return len(model.subgraphs[0].tensors) - 1


def _activation(schema: Any, model: Any, like: int, name: str, scale: float, zero_point: int) -> int:
    tensors = model.subgraphs[0].tensors
    tensor = _tensor(schema, f"hard_swish/{name}", list(tensors[like].shape), scale, zero_point)
    tensors.append(tensor)
    return len(tensors) - 1


def _tensor(schema: Any, name: str, shape: list[int], scale: float, zero_point: int) -> Any:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type, tensor.buffer = name.encode(), shape, schema.TensorType.INT8, 0
    tensor.quantization = schema.QuantizationParametersT()
    tensor.quantization.scale, tensor.quantization.zeroPoint = [scale], [zero_point]
    return tensor


def _operator(schema: Any, code: int, options: Any, name: str, inputs: list[int], output: int) -> Any:
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = code, inputs, [output]
    operator.builtinOptions = options
    operator.builtinOptionsType = getattr(schema.BuiltinOptions, f"{name}Options")
    return operator


def _code(schema: Any, model: Any, kind: str) -> int:
    builtin = getattr(schema.BuiltinOperator, kind)
    for at, code in enumerate(model.operatorCodes):
        if max(code.builtinCode, code.deprecatedBuiltinCode) == builtin:
            return at
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = builtin
    code.version = 2  # the first that knows int8
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1
