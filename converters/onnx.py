"""ONNX files for ONNX Runtime: channels first, so that the graph needs no Transpose."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.calibration import tensors
from converters.head_bias import measure_shift
from converters.keras_export import Export
from device_agent.contract.errors import NotWritable
from device_agent.contract.optional import require
from device_agent.runtimes.silence import require_silent

OPSET = 17


def write_fp32(export: Export, folder: Path) -> list[Path]:
    """model.onnx, float32, batch normalization folded."""
    path = folder / "model.onnx"
    path.write_bytes(_float_model(export).read_bytes())
    return [path]


def write_fp16(export: Export, folder: Path) -> list[Path]:
    """model.onnx, fp16 within, float32 at both ends: for GPUs; a CPU computes it no faster than float32.

    Depthwise convolutions stay float32, as in `converters.openvino.write_fp16` and for the same reason.
    """
    onnx = require("onnx", extra="toolkit")
    half = require_silent("onnxruntime.transformers.float16", extra="toolkit")
    path = folder / "model.onnx"
    model = onnx.load(str(_float_model(export)))
    deep = [
        node.name for node in model.graph.node if any(each.name == "group" and each.i > 1 for each in node.attribute)
    ]
    model = half.convert_float_to_float16(model, keep_io_types=True, node_block_list=deep)
    order = require_silent("onnxruntime.transformers.onnx_model", extra="toolkit").OnnxModel
    order.graph_topological_sort(model.graph, is_deterministic=True)  # the casts came last
    path.write_bytes(model.SerializeToString())
    return [path]


def write_int8(export: Export, folder: Path) -> list[Path]:
    """model.onnx with float32 input and output, QDQ between: uint8 activations a tensor, int8 weights a channel."""
    quantization = require_silent("onnxruntime.quantization", extra="toolkit")
    path = folder / "model.onnx"
    kind = quantization.QuantType
    with _whole_files(path):
        quantization.quantize_static(
            str(_float_model(export)),
            str(path),
            _Reader(export),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=kind.QUInt8,
            weight_type=kind.QInt8,
            per_channel=True,
        )
    _add_bias(path, measure_shift(export, "onnx", path))
    return [path]


class _Reader:
    """The calibration images as onnxruntime asks for them."""

    def __init__(self, export: Export) -> None:
        self._tensors = tensors(export.calibration, export.spec, channels_first=True)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        tensor = next(self._tensors, None)
        return None if tensor is None else {"image": tensor}


def _float_model(export: Export) -> Path:
    """The float model among the export's intermediate files, written by the first who asks."""
    path = export.scratch / "float.onnx"
    if path.exists():
        return path
    tf2onnx = require_silent("tf2onnx", extra="toolkit")
    quantization = require_silent("onnxruntime.quantization.shape_inference", extra="toolkit")
    image, logits = export.frozen.inputs[0].name, export.frozen.outputs[0].name
    model, _ = tf2onnx.convert.from_graph_def(
        export.frozen.graph.as_graph_def(),
        input_names=[image],
        output_names=[logits],
        opset=OPSET,
        inputs_as_nchw=[image],
    )
    _rename(model.graph, {image: "image", logits: "logits"})
    raw = export.scratch / "raw.onnx"
    raw.write_bytes(model.SerializeToString())
    with _whole_files(path):
        quantization.quant_pre_process(str(raw), str(path), skip_symbolic_shape=True)
    return path


@contextmanager
def _whole_files(path: Path) -> Iterator[None]:
    """onnxruntime writes its intermediate files without a look at the disk, and stumbles when it reads them again."""
    message = require("google.protobuf.message", extra="toolkit")
    try:
        yield
    except message.DecodeError as error:
        raise NotWritable(f"{path}: cannot be written: a file came back incomplete; is the disk full?") from error


def _rename(graph: Any, names: dict[str, str]) -> None:
    """Give the tensors in `names` their new names, and the rest numbers: tf2onnx's names differ from run to run."""
    names |= {name: f"t{number}" for number, name in enumerate(_tensors(graph)) if name not in names}
    order = {name: number for number, name in enumerate(names)}
    constants = sorted(graph.initializer, key=lambda tensor: order[tensor.name])
    del graph.initializer[:], graph.value_info[:]
    graph.initializer.extend(constants)
    for value in (*graph.input, *graph.output, *graph.initializer):
        value.name = names[value.name]
    for number, node in enumerate(graph.node):
        node.name = f"{node.op_type}{number}"
        for ports in (node.input, node.output):
            ports[:] = [names.get(name, name) for name in ports]
    graph.name = "lineside"


def _tensors(graph: Any) -> list[str]:
    """Name of each tensor of the graph in the order of its first use."""
    used = (name for node in graph.node for name in (*node.input, *node.output) if name)
    return list(dict.fromkeys((*(value.name for value in graph.input), *used)))


def _add_bias(path: Path, shift: NDArray[np.float64]) -> None:
    """Add `shift` (classes,) to the logits through the int32 bias of the last Gemm, if it has one."""
    onnx = require("onnx", extra="toolkit")
    numpy_helper = require("onnx.numpy_helper", extra="toolkit")
    model = onnx.load(str(path))
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    made_by = {name: node for node in model.graph.node for name in node.output}
    gemms = [node for node in model.graph.node if node.op_type == "Gemm" and len(node.input) == 3]
    source = made_by.get(gemms[-1].input[2]) if gemms else None
    if source is None or source.op_type != "DequantizeLinear":
        return
    bias, scale = constants[source.input[0]], numpy_helper.to_array(constants[source.input[1]])
    new = numpy_helper.to_array(bias) + np.rint(shift / scale).astype(np.int32)
    bias.CopyFrom(numpy_helper.from_array(new.astype(np.int32), bias.name))
    path.write_bytes(model.SerializeToString())
