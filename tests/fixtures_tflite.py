"""A small int8 .tflite file that is put together by hand, without TensorFlow; one layer's range can be spoilt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SIZE, CLASSES = 16, 3


class _File:
    """A model under construction: tensors and operators are added in the order of execution."""

    def __init__(self, schema: Any) -> None:
        self.schema, self.model, self.graph = schema, schema.ModelT(), schema.SubGraphT()
        self.model.version, self.model.description = 3, b"by hand"
        self.model.buffers, self.model.operatorCodes = [schema.BufferT()], []
        self.model.subgraphs = [self.graph]
        self.graph.tensors, self.graph.operators = [], []

    def tensor(self, name: str, shape: list[int], kind: str, scale: Any = None, zero: int = 0, axis: int = 0) -> int:
        made = self.schema.TensorT()
        made.name, made.shape, made.buffer = name.encode(), shape, 0
        made.type = getattr(self.schema.TensorType, kind)
        if scale is not None:
            scales = np.atleast_1d(np.asarray(scale, np.float32))
            made.quantization = self.schema.QuantizationParametersT()
            made.quantization.scale, made.quantization.zeroPoint = scales, np.full(len(scales), zero, np.int64)
            made.quantization.quantizedDimension = axis
        self.graph.tensors.append(made)
        return len(self.graph.tensors) - 1

    def constant(self, name: str, value: np.ndarray, scale: Any = None, axis: int = 0) -> int:
        number = self.tensor(name, list(value.shape), value.dtype.name.upper(), scale, axis=axis)
        buffer = self.schema.BufferT()
        buffer.data = np.frombuffer(value.tobytes(), np.uint8)
        self.model.buffers.append(buffer)
        self.graph.tensors[number].buffer = len(self.model.buffers) - 1
        return number

    def operator(self, kind: str, version: int, inputs: list[int], output: int, options: Any, name: str) -> int:
        code = self.schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = getattr(self.schema.BuiltinOperator, kind)
        code.version = version
        self.model.operatorCodes.append(code)
        made = self.schema.OperatorT()
        made.opcodeIndex, made.inputs, made.outputs = len(self.model.operatorCodes) - 1, inputs, [output]
        if options is not None:
            made.builtinOptions, made.builtinOptionsType = options, getattr(self.schema.BuiltinOptions, name)
        self.graph.operators.append(made)
        return output

    def weighted(self, kind: str, given: int, kernel: np.ndarray, bias: np.ndarray, output: int, options: Any) -> int:
        """A convolution or a product of float weights, rounded to int8 by output channel."""
        scale = np.abs(kernel).reshape(len(kernel), -1).max(axis=1) / 127
        stored = np.rint(kernel / scale.reshape(-1, *[1] * (kernel.ndim - 1))).astype(np.int8)
        step = float(self.graph.tensors[given].quantization.scale[0]) * scale
        weights = self.constant(f"kernel{output}", stored, scale)
        biases = self.constant(f"bias{output}", np.rint(bias / step).astype(np.int32), step)
        name = "Conv2DOptions" if kind == "CONV_2D" else "FullyConnectedOptions"
        return self.operator(kind, 3 if kind == "CONV_2D" else 4, [given, weights, biases], output, options, name)

    def activation(self, name: str, shape: list[int], low: float, high: float) -> int:
        scale = (high - low) / 255
        return self.tensor(name, shape, "INT8", scale, int(np.rint(-128 - low / scale)))


def _build(path: Path, spoilt: float, seed: int, size: int = SIZE) -> Path:
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    flatbuffers = pytest.importorskip("flatbuffers")
    rng, file, half = np.random.default_rng(seed), _File(schema), size // 2

    def convolution(stride: int) -> Any:
        options = schema.Conv2DOptionsT()
        options.strideH = options.strideW = stride
        options.dilationHFactor = options.dilationWFactor = 1
        return options

    image = file.activation("image", [1, size, size, 3], -1, 1)
    first = file.activation("net/first/Conv2D", [1, half, half, 8], -8, 8)
    swish = file.activation("net/swish/HardSwish", [1, half, half, 8], -0.375, 8)
    second = file.activation("net/second/Conv2D", [1, half, half, 8], -8 * spoilt, 8 * spoilt)
    pooled = file.activation("net/pooled/Mean", [1, 8], -5, 5)
    logits = file.activation("Identity", [1, CLASSES], -16, 16)
    file.weighted("CONV_2D", image, rng.normal(0, 0.5, (8, 3, 3, 3)), rng.normal(0, 0.3, 8), first, convolution(2))
    file.operator("HARD_SWISH", 1, [first], swish, schema.HardSwishOptionsT(), "HardSwishOptions")
    file.weighted("CONV_2D", swish, rng.normal(0, 0.5, (8, 1, 1, 8)), rng.normal(0, 0.1, 8), second, convolution(1))
    axes = file.constant("axes", np.array([1, 2], np.int32))
    file.operator("MEAN", 2, [second, axes], pooled, schema.ReducerOptionsT(), "ReducerOptions")
    dense = schema.FullyConnectedOptionsT()
    file.weighted("FULLY_CONNECTED", pooled, rng.normal(0, 1.2, (CLASSES, 8)), np.zeros(CLASSES), logits, dense)
    file.graph.inputs, file.graph.outputs = [image], [logits]
    builder = flatbuffers.Builder(1024)
    builder.Finish(file.model.Pack(builder), file_identifier=b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


@pytest.fixture
def int8_file(tmp_path: Path) -> Callable[..., Path]:
    """Makes a file (1, size, size, 3) to three logits: convolution, HARD_SWISH, convolution, mean, product. `spoilt`
    widens the range of the second convolution by that factor, as one outlier in the calibration does."""

    def make(name: str = "model.tflite", *, spoilt: float = 1.0, seed: int = 1, size: int = SIZE) -> Path:
        pytest.importorskip("ai_edge_litert.interpreter")
        return _build(tmp_path / name, spoilt, seed, size)

    return make


@pytest.fixture
def patterns() -> np.ndarray:
    """Images (24, 16, 16, 3) uint8 that the file tells apart: of other brightness and colour."""
    rng = np.random.default_rng(0)
    level = rng.uniform(20, 235, (24, 1, 1, 3))
    return np.clip(level + rng.normal(0, 25, (24, SIZE, SIZE, 3)), 0, 255).astype(np.uint8)


@pytest.fixture
def pattern_folder(tmp_path: Path, patterns: np.ndarray) -> Path:
    """The same images in three class folders."""
    cv2 = pytest.importorskip("cv2")
    for number, image in enumerate(patterns):
        folder = tmp_path / "images" / ("dent", "good", "scratch")[number % CLASSES]
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"{number}.png"), image)
    return tmp_path / "images"
