"""Reading .onnx files: quantization stands on the tensors, what is left over at the ends are operators."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from converters.macs import macs, parameter_bytes
from converters.onnx_file import read_graph
from device_agent.contract.errors import BadInput, NotFound

onnx = pytest.importorskip("onnx")
helper, numpy_helper = pytest.importorskip("onnx.helper"), pytest.importorskip("onnx.numpy_helper")


def write_quantized(path: Path, *, zero: int = 128) -> Path:
    """image (1, 3, 8, 8) -> Q -> DQ -> Conv 3x3 to 4 channels, int8 weights a channel -> Q -> DQ -> Relu -> logits."""
    rng = np.random.default_rng(0)
    constants = {
        "s": np.float32(0.1),
        "z": np.uint8(zero),
        "w": rng.integers(-127, 127, (4, 3, 3, 3), dtype=np.int8),
        "ws": np.linspace(0.1, 0.4, 4, dtype=np.float32),
        "wz": np.zeros(4, np.int8),
    }
    node = helper.make_node
    nodes = [
        node("QuantizeLinear", ["image", "s", "z"], ["q"]),
        node("DequantizeLinear", ["q", "s", "z"], ["x"]),
        node("DequantizeLinear", ["w", "ws", "wz"], ["weights"], axis=0),
        node("Conv", ["x", "weights"], ["y"], kernel_shape=[3, 3]),
        node("QuantizeLinear", ["y", "s", "z"], ["yq"]),
        node("DequantizeLinear", ["yq", "s", "z"], ["yd"]),
        node("Relu", ["yd"], ["logits"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("image", onnx.TensorProto.FLOAT, [1, 3, 8, 8])],
        [value("logits", onnx.TensorProto.FLOAT, [1, 4, 6, 6])],
        [numpy_helper.from_array(np.asarray(data), name) for name, data in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def test_pairs_of_quantize_and_dequantize_are_dtypes(tmp_path: Path) -> None:
    graph = read_graph(write_quantized(tmp_path / "m.onnx"))
    assert [op.kind for op in graph.operators] == ["QuantizeLinear", "Conv", "Relu"]
    conv = graph.operators[1]
    image, weights, made = (graph.tensors[each] for each in (*conv.inputs, *conv.outputs))
    assert (image.dtype, image.shape, int(image.zero_point[0])) == ("uint8", (1, 3, 8, 8), 128)
    assert (weights.dtype, weights.scale.size, weights.axis) == ("int8", 4, 0) and weights.data is not None
    assert (made.dtype, made.shape) == ("uint8", (1, 4, 6, 6)) and conv.version == 17
    assert graph.tensors[graph.inputs[0]].dtype == graph.tensors[graph.outputs[0]].dtype == "float32"


def test_work_and_bytes_of_a_convolution(tmp_path: Path) -> None:
    graph = read_graph(write_quantized(tmp_path / "m.onnx"))
    assert [macs(graph, op) for op in graph.operators] == [0, 4 * 6 * 6 * 3 * 9, 0]
    assert parameter_bytes(graph, graph.operators[1]) == 4 * 3 * 9


def test_what_is_no_such_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such file"):
        read_graph(tmp_path / "none.onnx")
    text = tmp_path / "text.onnx"
    text.write_text("a text that is no model")
    with pytest.raises(BadInput, match=r"text.onnx: is not an ONNX file"):
        read_graph(text)
    content = write_quantized(tmp_path / "m.onnx").read_bytes()
    for length in range(0, len(content), 41):  # wherever it was cut off: one line, or a graph
        text.write_bytes(content[:length])
        try:
            read_graph(text)
        except BadInput as error:
            assert "\n" not in str(error)
