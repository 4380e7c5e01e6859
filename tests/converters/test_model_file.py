"""Files from elsewhere: what is read from them, and what is said of those that no device can run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters.model_file import read_model_file
from device_agent.contract.errors import BadInput, NotFound

onnx = pytest.importorskip("onnx")
SHAPE, ROW = (1, 3, 8, 10), (1, 4)


def write(
    path: Path,
    *,
    given: tuple[Any, ...] = SHAPE,
    row: tuple[Any, ...] = ROW,
    last: str | None = None,
    weight: float = 1.0,
    second: bool = False,
) -> Path:
    """An .onnx file: the mean of the image times a weight, and `last` after it."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node("ReduceMean", ["image", "axes"], ["mean"], keepdims=0),
        helper.make_node("Reshape", ["mean", "shape"], ["column"]),
        helper.make_node("MatMul", ["column", "weight"], ["product" if last else "out"]),
    ]
    if last:
        nodes.append(helper.make_node(last, ["product"], ["out"]))
    inputs = [helper.make_tensor_value_info("image", kind, given)]
    if second:
        inputs.append(helper.make_tensor_value_info("mask", kind, given))
    constants = {
        "axes": np.array([1, 2, 3], np.int64),
        "shape": np.array([1, 1], np.int64),
        "weight": weight * np.arange(4, dtype=np.float32)[None],
    }
    graph = helper.make_graph(
        nodes,
        "mean",
        inputs,
        [helper.make_tensor_value_info("out", kind, row)],
        [onnx.numpy_helper.from_array(value.astype(value.dtype), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


def test_size_classes_and_ending_are_read(tmp_path: Path) -> None:
    plain = read_model_file(write(tmp_path / "a.onnx"))
    assert (plain.runtime, plain.precision, plain.height, plain.width, plain.channels) == ("onnx", "fp32", 8, 10, 3)
    assert (plain.classes, plain.ending, plain.values) == (4, "logits", None)
    assert read_model_file(write(tmp_path / "b.onnx", last="Softmax")).ending == "softmax"
    assert read_model_file(write(tmp_path / "c.onnx", last="Sigmoid")).ending == "sigmoid"
    assert read_model_file(write(tmp_path / "d.onnx", given=(1, 8, 10, 1))).channels == 1


def test_the_input_is_what_is_asked_for_or_assumed(tmp_path: Path) -> None:
    model = read_model_file(write(tmp_path / "a.onnx"))
    assumed, given = model.input_spec(), model.input_spec((0.0, 255.0), bgr=True)
    assert (assumed.height, assumed.width, assumed.offset, assumed.colour_order) == (8, 10, -1.0, "rgb")
    assert (given.scale, given.offset, given.colour_order) == (1.0, 0.0, "bgr")
    grey = read_model_file(write(tmp_path / "b.onnx", given=(1, 1, 8, 10)))
    assert grey.input_spec(bgr=True).colour_order == "grey"


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"given": ("N", 3, 8, 10)}, r"'image' is \(N, 3, 8, 10\), not of a fixed size; fix it with: python -m onnx"),
        ({"given": (1, 3, "H", "W")}, "not of a fixed size"),
        ({"given": (1, 5, 8, 10)}, "must be one image of 1 or 3 channels"),
        ({"given": (2, 3, 8, 10)}, "must be one image"),
        ({"given": (1, 240)}, r"\(1, 240\); it must be one image"),
        ({"row": (1, 1)}, "2 classes or more"),
        ({"row": (1, 4, 4)}, "one output"),
        ({"row": ("N", 4)}, "one output"),
        ({"weight": np.nan}, "weights 'weight' are not finite"),
        ({"second": True}, r"takes 2 inputs \(image, mask\)"),
    ],
)
def test_what_no_device_can_run_is_said(tmp_path: Path, how: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        read_model_file(write(tmp_path / "a.onnx", **how))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("vww.h5", "lineside train DATA --out RUN --weights"),
        ("model.keras", "is a Keras file"),
        ("model.pb", "TFLiteConverter"),
        ("model.pth", r"torch\.onnx\.export"),
        ("model.bin", r"the \.xml beside it"),
        ("model", r"must be a \.tflite, \.onnx or OpenVINO \.xml file"),
        ("model.tflite", "is not a TensorFlow Lite file"),
        ("model.onnx", "cannot be read as an ONNX file"),
        ("model.xml", "OpenVINO's own format"),
    ],
)
def test_another_kind_of_file_is_refused_with_what_would_work(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / name).write_text("something else than a model")
    with pytest.raises(BadInput, match=said):
        read_model_file(tmp_path / name)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such model file"):
        read_model_file(tmp_path / "model.tflite")


def test_public_files_are_read(weights_dir: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    wake = read_model_file(weights_dir / "tflite" / "vww_96_int8.tflite")
    assert (wake.precision, wake.dtype, wake.height, wake.classes, wake.ending) == ("int8", "int8", 96, 2, "softmax")
    assert wake.values == pytest.approx((0.0, 1.0)) and wake.input_spec().offset == pytest.approx(0.0)
    float_one = read_model_file(weights_dir / "tflite" / "vww_96_float.tflite")
    assert (float_one.precision, float_one.values) == ("fp32", None)
    ptq = read_model_file(weights_dir / "tflite" / "tf2_mobilenet_v2_1.0_224_ptq.tflite")
    assert (ptq.dtype, ptq.classes, ptq.ending) == ("uint8", 1001, "softmax")
    # byte for byte: what the model's own quantization makes of 0 and of 255
    assert ptq.input_spec().offset == pytest.approx(-127 / 127.5, abs=1e-4)
    with pytest.raises(BadInput, match="compiled for the Edge TPU"):
        read_model_file(weights_dir / "edgetpu" / "mobilenet_v1_0.25_128_quant_edgetpu.tflite")
    with pytest.raises(BadInput, match="lineside train DATA"):
        read_model_file(weights_dir / "keras" / "vww_96.h5")
