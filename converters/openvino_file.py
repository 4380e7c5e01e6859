"""OpenVINO's .xml with its .bin read as a graph whose quantization stands on its tensors, as in a .tflite file."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from converters.tflite_file import Graph, Operator, Tensor
from device_agent.contract.errors import BadInput, NotFound
from device_agent.runtimes.silence import require_silent

_DTYPES = {"f32": "float32", "f16": "float16", "i8": "int8", "u8": "uint8", "i32": "int32", "i64": "int64"}
_MOVES = {"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Pad", "MaxPool"}  # their output has their input's integers
_FLOAT = np.empty(0, np.float32), np.empty(0, np.int64)


def read_graph(path: Path) -> Graph:
    """The graph of the file at `path`; a tensor's name is that of the operator which makes it.

    Arithmetic on constants (weights that are stored as int8 or fp16) is the constant. A FakeQuantize is no operator but
    a property of the tensor that it rounds; the one on the graph's input, where float turns into integers, is one.

    Raises:
        NotFound: no such file, or the .bin is not beside it.
        BadInput: not OpenVINO's format, or damaged.
    """
    ov = require_silent("openvino", extra="toolkit")
    for file in (path, path.with_suffix(".bin")):
        if not file.is_file():
            raise NotFound(f"{file}: no such file")
    try:
        model = ov.Core().read_model(str(path))
    except RuntimeError as error:
        raise BadInput(f"{path}: OpenVINO cannot read it: {str(error).strip().splitlines()[-1].lower()}") from error
    return _Folding(model).graph()


class _Folding:
    """The model's outputs of operators, each with the number of the tensor that it stands for."""

    def __init__(self, model: Any) -> None:
        self._tensors: list[Tensor] = []
        self._number: dict[tuple[str, int], int] = {}
        self._operators: list[Operator] = []
        self._inputs: list[int] = []
        self._outputs: list[int] = []
        for node in model.get_ordered_ops():
            self._add(node)

    def graph(self) -> Graph:
        """The operators that are left, and their tensors."""
        return Graph(tuple(self._tensors), tuple(self._operators), tuple(self._inputs), tuple(self._outputs))

    def _add(self, node: Any) -> None:
        kind = node.get_type_name()
        sources = [self._source(node, port) for port in range(node.get_input_size())]
        if kind == "Result":
            self._outputs.append(sources[0])
        elif kind == "Constant":
            self._new(node, 0, np.asarray(node.data))
        elif kind == "Parameter":
            self._inputs.append(self._new(node, 0, None))
        elif sources and all(self._tensors[one].data is not None for one in sources):
            self._fold_constant(node, sources)
        elif kind == "FakeQuantize" and not self._kept(node, sources[0]):
            self._number[node.get_friendly_name(), 0] = sources[0]
            self._tensors[sources[0]] = self._rounded(node, self._tensors[sources[0]], sources)
        else:
            made = tuple(self._new(node, port, None) for port in range(node.get_output_size()))
            if kind == "FakeQuantize":
                self._tensors[made[0]] = self._rounded(node, self._tensors[made[0]], sources)
            elif kind in _MOVES and self._tensors[sources[0]].quantized:
                self._tensors[made[0]] = self._moved(self._tensors[made[0]], self._tensors[sources[0]])
            version = re.sub(r"\D", "", str(node.get_type_info().version_id)) or "0"
            self._operators.append(Operator(kind, int(version), tuple(sources), made, dict(node.get_attributes())))

    def _source(self, node: Any, port: int) -> int:
        source = node.input(port).get_source_output()
        return self._number[source.get_node().get_friendly_name(), source.get_index()]

    def _new(self, node: Any, port: int, data: Any) -> int:
        output = node.output(port)
        shape = tuple(d.get_length() if d.is_static else -1 for d in output.get_partial_shape())
        kind = output.get_element_type().to_string()
        name = node.get_friendly_name()
        scale, zero = _FLOAT
        self._tensors.append(Tensor(name, shape, _DTYPES.get(kind, kind), scale, zero, 0, data))
        self._number[name, port] = len(self._tensors) - 1
        return len(self._tensors) - 1

    def _fold_constant(self, node: Any, sources: list[int]) -> None:
        """What is computed of constants has the bytes and the dtype of the first of them."""
        root = self._tensors[sources[0]]
        number = self._new(node, 0, root.data)
        factor = self._tensors[sources[-1]].data
        scaled = root.dtype in ("int8", "uint8") and node.get_type_name() == "Multiply" and factor is not None
        scale = np.asarray(factor, np.float32).reshape(-1) if scaled else root.scale
        self._tensors[number] = replace(self._tensors[number], dtype=root.dtype, scale=scale)

    def _kept(self, node: Any, source: int) -> bool:
        """Whether the tensor that is rounded is read unrounded as well, or comes from outside."""
        output = node.input(0).get_source_output()
        return source in self._inputs or len(output.get_target_inputs()) > 1

    def _moved(self, tensor: Tensor, source: Tensor) -> Tensor:
        return replace(tensor, dtype=source.dtype, scale=source.scale, zero_point=source.zero_point)

    def _rounded(self, node: Any, tensor: Tensor, sources: list[int]) -> Tensor:
        """The tensor with the scale of the FakeQuantize that reads it."""
        levels = int(node.get_attributes()["levels"])
        low, high = (np.asarray(self._tensors[one].data, np.float64).reshape(-1) for one in sources[3:5])
        scale = (high - low) / (levels - 1)
        signed = bool((low < 0).any())
        zero = np.rint(-low / np.where(scale > 0, scale, 1)).astype(np.int64) - (128 if signed else 0)
        dtype = ("int8" if signed else "uint8") if levels <= 256 else tensor.dtype
        return replace(tensor, dtype=dtype, scale=scale.astype(np.float32), zero_point=zero, axis=1)
