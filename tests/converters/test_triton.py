"""config.pbtxt read by protobuf's own parser, and what the ports of a model file are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters.triton import Port, Word, config_text, read_ports, text_format, write_model
from device_agent.contract.errors import BadInput

text_parser = pytest.importorskip("google.protobuf.text_format")
PORTS = (Port("image", "float32", [1, 3, 8, 8]), Port("logits", "float32", [1, 4]))
SCHEMA = {  # the fields of Triton's model_config.proto that are written; in text they go by name, not by number
    "Port": ["name:s", "data_type:e:DataType", "dims:i*", "label_filename:s"],
    "Group": ["count:i", "kind:e:Kind"],
    "Value": ["string_value:s"],
    "Parameter": ["key:s", "value:m:Value"],
    "ModelConfig": [
        "name:s",
        "backend:s",
        "max_batch_size:i",
        "input:m*:Port",
        "output:m*:Port",
        "instance_group:m*:Group",
        "parameters:m*:Parameter",
    ],
}
ENUMS = {"DataType": ["TYPE_INVALID", "TYPE_UINT8", "TYPE_FP32"], "Kind": ["KIND_AUTO", "KIND_GPU", "KIND_CPU"]}


def schema() -> Any:
    """The message class ModelConfig, made of the tables above."""
    pb2 = pytest.importorskip("google.protobuf.descriptor_pb2")
    pool = pytest.importorskip("google.protobuf.descriptor_pool").DescriptorPool()
    factory = pytest.importorskip("google.protobuf.message_factory")
    file = pb2.FileDescriptorProto(name="config.proto", package="t", syntax="proto3")
    for enum, names in ENUMS.items():
        made = file.enum_type.add(name=enum)
        for number, name in enumerate(names):
            made.value.add(name=name, number=number)
    field = pb2.FieldDescriptorProto
    kinds = {"s": field.TYPE_STRING, "i": field.TYPE_INT64, "e": field.TYPE_ENUM, "m": field.TYPE_MESSAGE}
    for message, fields in SCHEMA.items():
        made = file.message_type.add(name=message)
        for number, text in enumerate(fields, 1):
            name, kind, *of = text.split(":")
            label = field.LABEL_REPEATED if kind.endswith("*") else field.LABEL_OPTIONAL
            added = made.field.add(name=name, number=number, type=kinds[kind[0]], label=label)
            if of:
                added.type_name = f".t.{of[0]}"
    pool.Add(file)
    return factory.GetMessageClass(pool.FindMessageTypeByName("t.ModelConfig"))


def parsed(text: str) -> Any:
    return text_parser.Parse(text, schema()())


def test_protobuf_reads_the_config_back() -> None:
    hard = 'a "quoted" \\ name\nwith Grüße\tand {braces}'
    config = parsed(config_text("steel", "onnx", "int8", PORTS, {"a": hard, "b": "2"}))
    assert (config.name, config.backend, config.max_batch_size) == ("steel", "onnxruntime", 0)
    (image,), (logits,), (group,) = config.input, config.output, config.instance_group
    assert (image.name, list(image.dims)) == ("image", [1, 3, 8, 8])
    assert (logits.name, list(logits.dims), logits.label_filename) == ("logits", [1, 4], "labels.txt")
    assert image.data_type == logits.data_type == ENUMS["DataType"].index("TYPE_FP32")
    assert (group.count, group.kind) == (1, ENUMS["Kind"].index("KIND_CPU"))
    assert {one.key: one.value.string_value for one in config.parameters} == {"a": hard, "b": "2"}


def test_an_unknown_field_would_be_found() -> None:
    with pytest.raises(text_parser.ParseError):
        parsed(text_format({"nmae": "steel"}))
    with pytest.raises(text_parser.ParseError):
        parsed(text_format({"instance_group": [{"kind": Word("KIND_NPU")}]}))


def test_backends_and_devices() -> None:
    half = parsed(config_text("steel", "onnx", "fp16", PORTS, {}))
    assert half.instance_group[0].kind == ENUMS["Kind"].index("KIND_AUTO")
    assert parsed(config_text("steel", "openvino", "fp16", PORTS, {})).backend == "openvino"
    with pytest.raises(BadInput, match="not litert"):
        config_text("steel", "litert", "int8", PORTS, {})
    with pytest.raises(BadInput, match="dtype complex64 is none"):
        config_text("steel", "onnx", "fp32", (Port("image", "complex64", [1]), PORTS[1]), {})


def write_onnx(path: Path, dims: list[int | str]) -> Path:
    onnx = pytest.importorskip("onnx")
    helper = pytest.importorskip("onnx.helper")
    float32 = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("Relu", ["image"], ["logits"])],
        "g",
        [helper.make_tensor_value_info("image", float32, dims)],
        [helper.make_tensor_value_info("logits", float32, dims)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def test_ports_of_an_onnx_file(tmp_path: Path) -> None:
    ends = read_ports(write_onnx(tmp_path / "m.onnx", [1, 4]), "onnx")
    assert ends == (Port("image", "float32", [1, 4]), Port("logits", "float32", [1, 4]))
    with pytest.raises(BadInput, match="image has no fixed size"):
        read_ports(write_onnx(tmp_path / "open.onnx", ["n", 4]), "onnx")
    with pytest.raises(BadInput, match="not litert"):
        read_ports(tmp_path / "m.tflite", "litert")


def test_ports_of_an_openvino_file(tmp_path: Path) -> None:
    ov = pytest.importorskip("openvino")
    opset = pytest.importorskip("openvino.opset13")
    image = opset.parameter([1, 4], np.float32, name="image")
    image.output(0).tensor.set_names({"image"})
    made = opset.relu(image)
    made.output(0).tensor.set_names({"logits"})
    ov.save_model(ov.Model([made], [image], "g"), str(tmp_path / "model.xml"))
    ends = read_ports(tmp_path / "model.xml", "openvino")
    assert ends == (Port("image", "float32", [1, 4]), Port("logits", "float32", [1, 4]))


def test_the_folder_of_a_model(tmp_path: Path) -> None:
    files = [tmp_path / "model.xml", tmp_path / "model.bin"]
    for file in files:
        file.write_text(file.suffix)
    folder = tmp_path / "steel"
    folder.mkdir()
    assert write_model(files, "config", ["good", "pit"], folder) == [
        "config.pbtxt",
        "labels.txt",
        "1/model.xml",
        "1/model.bin",
    ]
    assert (folder / "labels.txt").read_text() == "good\npit\n"
    assert (folder / "1" / "model.bin").read_text() == ".bin"
