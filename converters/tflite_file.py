"""A .tflite file read as a graph: operators, tensors, scales. Of whichever origin, and without TensorFlow."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput, NotFound
from device_agent.contract.optional import require

_IDENTIFIER = b"TFL3"  # bytes 4 to 8 of the file
_EMPTY: NDArray[np.float32] = np.empty(0, np.float32)
_NO_POINTS: NDArray[np.int64] = np.empty(0, np.int64)
_DAMAGE = (struct.error, IndexError, ValueError, TypeError, AttributeError, OverflowError, RecursionError, MemoryError)


@dataclass(frozen=True)
class Tensor:
    """A tensor: `dtype` as numpy names it ("string" and the like where numpy has none), `shape` with -1 where it is not
    fixed, `scale` and `zero_point` (1,) or one a channel along `axis`, (0,) where it is not quantized, and `data` in
    that shape where it is a constant."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: NDArray[np.float32]
    zero_point: NDArray[np.int64]
    axis: int
    data: NDArray[Any] | None

    @property
    def quantized(self) -> bool:
        """Whether its integers stand for scale * (integer - zero_point)."""
        return self.scale.size > 0

    def values(self) -> NDArray[np.float32]:
        """A constant as float32, dequantized where it is quantized.

        Raises:
            BadInput: no constant.
        """
        if self.data is None:
            raise BadInput(f"tensor {self.name!r} is not a constant")
        if not self.quantized:
            return np.asarray(self.data, np.float32)
        shape = [1] * len(self.shape)
        if self.scale.size > 1:
            shape[self.axis] = -1
        centred = self.data.astype(np.float64) - self.zero_point.reshape(shape)
        return np.asarray(centred * self.scale.reshape(shape), np.float32)


FUSED = {1: (0.0, float("inf")), 2: (-1.0, 1.0), 3: (0.0, 6.0)}
"""What a fused activation can give, by the schema's number: relu, relu_n1_to_1, relu6."""


@dataclass(frozen=True)
class Operator:
    """An operator: `kind` as the schema names it ("CONV_2D"; a custom one by its own name), `version`, the numbers of
    its input and output tensors (-1: an optional input that is left out) and its `options` by the schema's names."""

    kind: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: dict[str, Any]
    custom: bool = False


@dataclass(frozen=True)
class Graph:
    """The main graph of a file, its operators in the order of execution."""

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    description: str = ""

    @cached_property
    def maker(self) -> dict[int, int]:
        """Number of the operator that gives each tensor that is no constant and no input."""
        return {tensor: number for number, each in enumerate(self.operators) for tensor in each.outputs}

    @cached_property
    def readers(self) -> dict[int, list[int]]:
        """Numbers of the operators that read each tensor."""
        found: dict[int, list[int]] = {}
        for number, each in enumerate(self.operators):
            for tensor in dict.fromkeys(each.inputs):
                found.setdefault(tensor, []).append(number)
        return found


def read_graph(path: Path) -> Graph:
    """The main graph of the file at `path`.

    Raises:
        NotFound: no such file.
        BadInput: not a TensorFlow Lite file, a damaged one, or one whose weights lie outside of it.
    """
    schema, model = _open(path)
    try:
        return _graph(schema, model)
    except _DAMAGE as error:
        raise BadInput(f"{path}: is damaged: {error}") from error


def edit(path: Path, change: Callable[[Any, Any], None]) -> None:
    """Let `change` alter the file's content, given as the schema's module and its object (a `ModelT`), and write it.

    Raises:
        NotFound, BadInput: as for `read_graph`.
    """
    schema, model = _open(path)
    change(schema, model)
    _empty_unused(model)
    flatbuffers = require("flatbuffers", extra="toolkit")
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), file_identifier=_IDENTIFIER)
    path.write_bytes(bytes(builder.Output()))


def _empty_unused(model: Any) -> None:
    """Take the content out of the buffers that nothing refers to any more; their numbers stay."""
    used = {tensor.buffer for graph in model.subgraphs for tensor in graph.tensors}
    used |= {each.buffer for each in model.metadata or []}
    for number, buffer in enumerate(model.buffers):
        if number not in used:
            buffer.data = None


def _open(path: Path) -> tuple[Any, Any]:
    schema = require("ai_edge_litert.schema_py_generated", extra="toolkit")
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise NotFound(f"{path}: no such file") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from error
    if content[4:8] != _IDENTIFIER:
        raise BadInput(f"{path}: is not a TensorFlow Lite file")
    try:
        model = schema.ModelT.InitFromPackedBuf(content, 0)
    except _DAMAGE as error:
        raise BadInput(f"{path}: is damaged: {error}") from error
    if not model.subgraphs:
        raise BadInput(f"{path}: is damaged: it holds no graph")
    return schema, model


def _graph(schema: Any, model: Any) -> Graph:
    kinds = {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}
    types = {number: name.lower() for name, number in vars(schema.TensorType).items() if isinstance(number, int)}
    main = model.subgraphs[0]
    description = model.description or b""
    return Graph(
        tensors=tuple(_tensor(types, model.buffers, each) for each in main.tensors),
        operators=tuple(_operator(kinds, model.operatorCodes, each) for each in main.operators),
        inputs=tuple(int(each) for each in main.inputs),
        outputs=tuple(int(each) for each in main.outputs),
        description=description.decode(errors="replace") if isinstance(description, bytes) else description,
    )


def _tensor(types: dict[int, str], buffers: list[Any], tensor: Any) -> Tensor:
    sizes = tensor.shape if tensor.shapeSignature is None else tensor.shapeSignature
    shape = tuple(int(size) for size in (() if sizes is None else sizes))
    dtype = types.get(tensor.type, f"type {tensor.type}")
    raw, data = buffers[tensor.buffer].data, None
    if raw is not None and len(raw) and hasattr(np, dtype):
        data = np.frombuffer(np.asarray(raw, np.uint8).tobytes(), dtype).reshape(tensor.shape)
    quantization = tensor.quantization
    has = quantization is not None and quantization.scale is not None
    name = tensor.name or b""
    return Tensor(
        name=name.decode(errors="replace") if isinstance(name, bytes) else name,
        shape=shape,
        dtype=dtype,
        scale=np.asarray(quantization.scale, np.float32) if has else _EMPTY,
        zero_point=np.asarray(quantization.zeroPoint, np.int64) if has else _NO_POINTS,
        axis=int(quantization.quantizedDimension) if has else 0,
        data=data,
    )


def _operator(kinds: dict[int, str], codes: list[Any], operator: Any) -> Operator:
    code = codes[operator.opcodeIndex]
    # files of old have the kind in the field that has become too small for new ones
    kind = kinds.get(max(code.builtinCode, code.deprecatedBuiltinCode), "?")
    custom = kind == "CUSTOM"
    inputs = () if operator.inputs is None else operator.inputs
    return Operator(
        kind=code.customCode.decode(errors="replace") if custom and code.customCode else kind,
        version=int(code.version),
        inputs=tuple(int(each) for each in inputs),
        outputs=tuple(int(each) for each in operator.outputs),
        options=dict(vars(operator.builtinOptions)) if operator.builtinOptions is not None else {},
        custom=custom,
    )
