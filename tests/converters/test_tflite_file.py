"""Reading .tflite files: one that is put together here, the public ones, damaged ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters.tflite_file import edit, read_graph
from device_agent.contract.errors import BadInput, NotFound

schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
flatbuffers = pytest.importorskip("flatbuffers")


def _tensor(name: str, shape: list[int], kind: int, buffer: int, scale: list[float], axis: int = 0) -> Any:
    made = schema.TensorT()
    made.name, made.shape, made.type, made.buffer = name.encode(), shape, kind, buffer
    made.quantization = schema.QuantizationParametersT()
    made.quantization.scale, made.quantization.zeroPoint = scale, [0] * len(scale)
    made.quantization.quantizedDimension = axis
    return made


@pytest.fixture
def dense(tmp_path: Path) -> Path:
    """A matrix product: int8 (1, 2) to (1, 3), weights with a scale a row."""
    model, graph, operator, code = schema.ModelT(), schema.SubGraphT(), schema.OperatorT(), schema.OperatorCodeT()
    weights = schema.BufferT()
    weights.data = np.array([[1, 2], [3, 4], [5, -6]], np.int8).view(np.uint8).ravel()
    model.buffers, model.operatorCodes, model.subgraphs = [schema.BufferT(), weights], [code], [graph]
    model.version, model.description = 3, b"by hand"
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.FULLY_CONNECTED
    code.version = 4
    int8 = schema.TensorType.INT8
    graph.tensors = [
        _tensor("in", [1, 2], int8, 0, [0.5]),
        _tensor("weights", [3, 2], int8, 1, [0.1, 0.2, 0.5]),
        _tensor("out", [1, 3], int8, 0, [0.25]),
    ]
    graph.inputs, graph.outputs, graph.operators = [0], [2], [operator]
    operator.inputs, operator.outputs = [0, 1, -1], [2]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    path = tmp_path / "dense.tflite"
    path.write_bytes(bytes(builder.Output()))
    return path


def test_operators_tensors_and_scales_are_read(dense: Path) -> None:
    graph = read_graph(dense)
    (operator,) = graph.operators
    assert (operator.kind, operator.version, operator.inputs, operator.custom) == (
        "FULLY_CONNECTED",
        4,
        (0, 1, -1),
        False,
    )
    assert graph.maker == {2: 0} and graph.readers[1] == [0] and graph.description == "by hand"
    assert [each.dtype for each in graph.tensors] == ["int8"] * 3
    np.testing.assert_allclose(graph.tensors[1].values(), [[0.1, 0.2], [0.6, 0.8], [2.5, -3.0]], rtol=1e-6)


def test_an_input_has_no_values(dense: Path) -> None:
    with pytest.raises(BadInput, match="'in' is not a constant"):
        read_graph(dense).tensors[0].values()


def test_an_edit_is_what_is_read_afterwards(dense: Path) -> None:
    def change(schema: Any, model: Any) -> None:
        model.subgraphs[0].tensors[2].quantization.scale = [0.75]

    edit(dense, change)
    assert read_graph(dense).tensors[2].scale.tolist() == [0.75]


def test_what_is_no_such_file_is_said(dense: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such file"):
        read_graph(tmp_path / "none.tflite")
    text = tmp_path / "text.tflite"
    text.write_text("a text that is no model")
    with pytest.raises(BadInput, match="not a TensorFlow Lite file"):
        read_graph(text)
    content = dense.read_bytes()
    for length in range(8, len(content), 7):  # wherever a copy was cut off: an error in one line, or the whole graph
        text.write_bytes(content[:length])
        try:
            assert read_graph(text).operators[0].kind == "FULLY_CONNECTED"
        except BadInput as error:
            assert "\n" not in str(error)


def test_a_compiled_file_of_the_edge_tpu_is_one_custom_operator(weights_dir: Path) -> None:
    (operator,) = read_graph(weights_dir / "edgetpu" / "mobilenet_v1_0.25_128_quant_edgetpu.tflite").operators
    assert operator.custom and operator.kind == "edgetpu-custom-op"
