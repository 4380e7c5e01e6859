"""A model's folder for NVIDIA's Triton Inference Server: config.pbtxt, the classes, and version 1 of the model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from converters.parity import Precision
from device_agent.contract.errors import BadInput
from device_agent.contract.optional import require
from device_agent.runtimes.silence import require_silent

BACKENDS = {"onnx": "onnxruntime", "openvino": "openvino"}
"""Triton's backend for each of lineside's runtimes that it has one for."""
LABELS = "labels.txt"
_TYPES = {"float32": "TYPE_FP32", "float16": "TYPE_FP16", "uint8": "TYPE_UINT8", "int8": "TYPE_INT8"}


class Port(msgspec.Struct, frozen=True):
    """An input or output of a model: its name, its dtype as numpy calls it, and its dimensions, batch included."""

    name: str
    dtype: str
    dims: list[int]


class Word(NamedTuple):
    """An enum's value in protobuf's text format: written without quotes."""

    text: str


def write_model(files: Sequence[Path], config: str, labels: Sequence[str], folder: Path) -> list[str]:
    """config.pbtxt, labels.txt and 1/model.* in `folder`, the folder of one model in the repository; their names."""
    (folder / "1").mkdir()
    (folder / "config.pbtxt").write_text(config)
    (folder / LABELS).write_text("".join(f"{label}\n" for label in labels))
    for file in files:
        shutil.copyfile(file, folder / "1" / file.name)
    return ["config.pbtxt", LABELS, *(f"1/{file.name}" for file in files)]


def config_text(
    name: str, runtime: str, precision: Precision, ports: tuple[Port, Port], parameters: Mapping[str, str]
) -> str:
    """config.pbtxt: one request is one image, `max_batch_size` 0, so the dimensions are those of the file.

    It runs on the CPU, where it was proved; fp16 for ONNX Runtime, which is made for GPUs, where there is one.

    Args:
        name: name of the model's folder.
        runtime: "onnx" or "openvino".
        precision: of the artifact.
        ports: input and output.
        parameters: strings that a client reads from the server; the backends pass over names that are not theirs.

    Raises:
        BadInput: no backend for that runtime, or a dtype that Triton has no name for here.
    """
    if runtime not in BACKENDS:
        raise BadInput(f"{name}: Triton gets onnx or openvino artifacts, not {runtime}; name one with --artifact")
    image, logits = ports
    on_gpu = runtime == "onnx" and precision == "fp16"
    fields = {
        "name": name,
        "backend": BACKENDS[runtime],
        "max_batch_size": 0,
        "input": [_port(image)],
        "output": [_port(logits) | {"label_filename": LABELS}],
        "instance_group": [{"count": 1, "kind": Word("KIND_AUTO" if on_gpu else "KIND_CPU")}],
        "parameters": [{"key": key, "value": {"string_value": value}} for key, value in parameters.items()],
    }
    return text_format(fields)


def read_ports(path: Path, runtime: str) -> tuple[Port, Port]:
    """Input and output of a model file, (1, 3, 224, 224) and (1, classes) for instance, read from the file.

    Raises:
        BadInput: no backend for that runtime, not one input and one output, or a size that is not fixed.
    """
    if runtime not in BACKENDS:
        raise BadInput(f"{path}: Triton gets onnx or openvino artifacts, not {runtime}; name one with --artifact")
    inputs, outputs = (_onnx_ports if runtime == "onnx" else _openvino_ports)(path)
    if len(inputs) != 1 or len(outputs) != 1:
        raise BadInput(f"{path}: must have one input and one output, has {len(inputs)} and {len(outputs)}")
    for port in (*inputs, *outputs):
        if min(port.dims, default=0) < 1:
            raise BadInput(f"{path}: {port.name} has no fixed size: {port.dims}; convert again with --force")
    return inputs[0], outputs[0]


def text_format(fields: Mapping[str, Any]) -> str:
    """Protobuf's text format of fields: a list is a repeated message, or numbers in brackets; a dict a message.

    >>> print(text_format({"name": "a", "input": [{"kind": Word("KIND_CPU"), "dims": [1, 3]}]}), end="")
    name: "a"
    input {
      kind: KIND_CPU
      dims: [1, 3]
    }
    """
    return "".join(f"{line}\n" for key, value in fields.items() for line in _lines(key, value))


def _lines(key: str, value: Any) -> list[str]:
    if isinstance(value, Word):
        return [f"{key}: {value.text}"]
    if isinstance(value, dict):
        inner = [line for name, each in value.items() for line in _lines(name, each)]
        return [f"{key} {{", *(f"  {line}" for line in inner), "}"]
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [line for each in value for line in _lines(key, each)]
    return [f"{key}: {json.dumps(value, ensure_ascii=False)}"]  # numbers, and strings with their quotes escaped as in C


def _port(port: Port) -> dict[str, Any]:
    if port.dtype not in _TYPES:
        raise BadInput(f"{port.name}: dtype {port.dtype} is none that is known here: {', '.join(_TYPES)}")
    return {"name": port.name, "data_type": Word(_TYPES[port.dtype]), "dims": port.dims}


def _onnx_ports(path: Path) -> tuple[list[Port], list[Port]]:
    onnx = require("onnx", extra="toolkit")
    helper = require("onnx.helper", extra="toolkit")
    graph = onnx.load(str(path)).graph
    constants = {tensor.name for tensor in graph.initializer}

    def read(value: Any) -> Port:
        kind = value.type.tensor_type
        dims = [int(size.dim_value) if size.HasField("dim_value") else -1 for size in kind.shape.dim]
        return Port(value.name, helper.tensor_dtype_to_np_dtype(kind.elem_type).name, dims)

    return [read(one) for one in graph.input if one.name not in constants], [read(one) for one in graph.output]


def _openvino_ports(path: Path) -> tuple[list[Port], list[Port]]:
    ov = require_silent("openvino", extra="toolkit")
    model = ov.Core().read_model(str(path))

    def read(port: Any) -> Port:
        dims = [size.get_length() if size.is_static else -1 for size in port.get_partial_shape()]
        return Port(port.get_any_name(), port.get_element_type().to_dtype().name, dims)

    return [read(port) for port in model.inputs], [read(port) for port in model.outputs]
