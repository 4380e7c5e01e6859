"""Reading OpenVINO's files: arithmetic on constants is a constant, FakeQuantize a property of tensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from converters.macs import macs, parameter_bytes
from converters.openvino_file import read_graph
from device_agent.contract.errors import BadInput, NotFound
from device_agent.runtimes.silence import require_silent

pytest.importorskip("openvino")


def write_quantized(path: Path) -> Path:
    """image (1, 8, 8, 3) -> FakeQuantize -> Transpose -> Convolution, int8 weights -> Relu -> FakeQuantize -> Relu."""
    ov, ops = require_silent("openvino", extra="toolkit"), require_silent("openvino.opset13", extra="toolkit")
    rng = np.random.default_rng(0)

    def rounded(node: object, low: float, high: float) -> object:
        ends = [ops.constant(np.float32(value)) for value in (low, high, low, high)]
        return ops.fake_quantize(node, *ends, 256)

    image = ops.parameter([1, 8, 8, 3], np.float32, name="image")
    stored = ops.constant(rng.integers(-127, 127, (4, 3, 3, 3), dtype=np.int8))
    scale = ops.constant(np.linspace(0.1, 0.4, 4, dtype=np.float32).reshape(4, 1, 1, 1))
    weights = ops.multiply(ops.convert(stored, "f32"), scale)
    moved = ops.transpose(rounded(image, -1.28, 1.27), ops.constant([0, 3, 1, 2]))
    conv = ops.convolution(moved, weights, [1, 1], [0, 0], [0, 0], [1, 1])
    made = ops.relu(rounded(ops.relu(conv), 0.0, 2.55))
    ov.save_model(ov.Model([made], [image], "m"), str(path), compress_to_fp16=False)
    return path


def test_quantization_stands_on_the_tensors(tmp_path: Path) -> None:
    graph = read_graph(write_quantized(tmp_path / "m.xml"))
    assert [op.kind for op in graph.operators] == ["FakeQuantize", "Transpose", "Convolution", "Relu", "Relu"]
    conv = graph.operators[2]
    image, weights = (graph.tensors[each] for each in conv.inputs)
    assert (image.dtype, image.shape, float(image.scale[0])) == ("int8", (1, 3, 8, 8), pytest.approx(0.01))
    assert (weights.dtype, weights.scale.size, weights.shape) == ("int8", 4, (4, 3, 3, 3)) and weights.data is not None
    first, second = (graph.tensors[each.outputs[0]] for each in graph.operators[3:])
    assert (first.dtype, int(first.zero_point[0]), second.dtype) == ("uint8", 0, "float32")


def test_work_and_bytes_of_a_convolution(tmp_path: Path) -> None:
    graph = read_graph(write_quantized(tmp_path / "m.xml"))
    assert macs(graph, graph.operators[2]) == 4 * 6 * 6 * 3 * 9
    assert parameter_bytes(graph, graph.operators[2]) == 4 * 3 * 9


def test_what_is_no_such_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"none.xml: no such file"):
        read_graph(tmp_path / "none.xml")
    path = write_quantized(tmp_path / "m.xml")
    path.write_text("<net")
    with pytest.raises(BadInput, match=r"m.xml: OpenVINO cannot read it") as caught:
        read_graph(path)
    assert "\n" not in str(caught.value)
    path.with_suffix(".bin").unlink()
    with pytest.raises(NotFound, match=r"m.bin: no such file"):
        read_graph(path)
