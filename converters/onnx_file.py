"""An .onnx file read as a graph whose quantization stands on its tensors, as in a .tflite file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.tflite_file import Graph, Operator, Tensor
from device_agent.contract.errors import BadInput, NotFound
from device_agent.contract.optional import require

_DAMAGE = (UnicodeDecodeError, TypeError, RuntimeError)
Scales = tuple[NDArray[np.float32], NDArray[np.int64], int]


def read_graph(path: Path) -> Graph:
    """The graph of the file at `path`; an operator's version is the operator set's.

    A pair of QuantizeLinear and DequantizeLinear is no operator but a property of the tensor between them: its dtype,
    scale and zero point. The pair's half that is left over where the graph turns from float to integers or back is one.

    Raises:
        NotFound: no such file.
        BadInput: not an ONNX file, or a damaged one.
    """
    onnx = require("onnx", extra="toolkit")
    inference = require("onnx.shape_inference", extra="toolkit")
    message = require("google.protobuf.message", extra="toolkit")
    checker = require("onnx.checker", extra="toolkit")
    try:
        model = onnx.load(str(path))
        checker.check_model(model)
        model = inference.infer_shapes(model)
    except FileNotFoundError:
        raise NotFound(f"{path}: no such file") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from error
    except (message.DecodeError, checker.ValidationError, inference.InferenceError, *_DAMAGE) as error:
        raise BadInput(f"{path}: is not an ONNX file, or is damaged: {str(error).splitlines()[0].lower()}") from error
    return _Folding(model).graph()


class _Folding:
    """The model's names, each with the tensor that it stands for."""

    def __init__(self, model: Any) -> None:
        numpy_helper = require("onnx.numpy_helper", extra="toolkit")
        self._model = model
        self._constants = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
        self._readers: dict[str, int] = {}
        for node in model.graph.node:
            for name in node.input:
                self._readers[name] = self._readers.get(name, 0) + 1
        self._made = {name for node in model.graph.node for name in node.output}
        self._outputs = {one.name for one in model.graph.output}
        self._same: dict[str, str] = {}
        self._scales: dict[str, Scales] = {}
        self._kept = [node for node in model.graph.node if not self._folded(node)]

    def _folded(self, node: Any) -> bool:
        """Whether the node only says how a tensor is quantized; what it says is noted."""
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            return False
        source, target = node.input[0], node.output[0]
        scale = np.atleast_1d(self._constants.get(node.input[1], np.ones(1)))
        zero = self._constants.get(node.input[2]) if len(node.input) > 2 else None
        zero = np.zeros_like(scale, np.uint8) if zero is None else np.atleast_1d(zero)
        axis = next((one.i for one in node.attribute if one.name == "axis"), 0)
        scales = (np.asarray(scale, np.float32), np.asarray(zero, np.int64), int(axis))
        if node.op_type == "DequantizeLinear":
            self._scales.setdefault(source, scales)
            if target in self._outputs:
                return False
            self._same[target] = source
            return True
        self._scales[target] = scales
        if source not in self._made or source in self._outputs or self._readers[source] > 1:
            return False
        self._same[source] = target
        return True

    def _name(self, name: str) -> str:
        while name in self._same:
            name = self._same[name]
        return name

    def graph(self) -> Graph:
        """The operators that are left, and the tensors that they read and write."""
        graph = self._model.graph
        values = {one.name: one for one in (*graph.value_info, *graph.input, *graph.output)}
        number: dict[str, int] = {}
        for node in self._kept:
            for name in (*node.input, *node.output):
                if name:
                    number.setdefault(self._name(name), len(number))
        known = {self._name(name): name for name in values}  # a folded tensor's shape is that of the one beside it
        ends = [self._name(one.name) for one in (*graph.input, *graph.output)]
        for name in ends:
            number.setdefault(name, len(number))
        sets = {one.domain: int(one.version) for one in self._model.opset_import}
        return Graph(
            tensors=tuple(self._tensor(name, values.get(name) or values.get(known.get(name, ""))) for name in number),
            operators=tuple(self._operator(node, sets, number) for node in self._kept),
            inputs=tuple(number[one.name] for one in graph.input if one.name not in self._constants),
            outputs=tuple(number[self._name(one.name)] for one in graph.output),
        )

    def _tensor(self, name: str, value: Any) -> Tensor:
        helper = require("onnx.helper", extra="toolkit")
        data = self._constants.get(name)
        scale, zero, axis = self._scales.get(name, (np.empty(0, np.float32), np.empty(0, np.int64), 0))
        if data is not None:
            return Tensor(name, data.shape, data.dtype.name, scale, zero, axis, data)
        kind = value.type.tensor_type if value is not None else None
        sizes = kind.shape.dim if kind is not None else ()
        shape = tuple(int(one.dim_value) if one.HasField("dim_value") else -1 for one in sizes)
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(kind.elem_type)).name if kind and kind.elem_type else "?"
        if scale.size:
            dtype = "uint8" if dtype == "float32" and zero.max(initial=0) > 127 else dtype
            dtype = self._integer(name, dtype)
        return Tensor(name, shape, dtype, scale, zero, axis, None)

    def _integer(self, name: str, dtype: str) -> str:
        """dtype of a quantized tensor: that of the zero point of a node that quantizes it."""
        for node in self._model.graph.node:
            if node.op_type == "QuantizeLinear" and node.output[0] == name and len(node.input) > 2:
                return str(self._constants[node.input[2]].dtype.name)
        return dtype

    def _operator(self, node: Any, sets: dict[str, int], number: dict[str, int]) -> Operator:
        helper = require("onnx.helper", extra="toolkit")
        domain = "" if node.domain == "ai.onnx" else node.domain
        return Operator(
            kind=f"{domain}.{node.op_type}" if domain else node.op_type,
            version=sets.get(node.domain, 0),
            inputs=tuple(number[self._name(name)] if name else -1 for name in node.input),
            outputs=tuple(number[self._name(name)] for name in node.output if name),
            options={one.name: helper.get_attribute_value(one) for one in node.attribute},
            custom=bool(domain),
        )
