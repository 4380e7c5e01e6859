"""TensorFlow Lite files for LiteRT."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.calibration import tensors
from converters.head_bias import measure_shift
from converters.keras_export import Export
from converters.rescaling import clip_ranges
from converters.shared.graph import Unsupported
from converters.tflite_file import edit
from device_agent.contract.optional import require


def write_fp32(export: Export, folder: Path) -> list[Path]:
    """model.tflite, float32 throughout."""
    path = folder / "model.tflite"
    write_float(export, path)
    return [path]


def write_int8(export: Export, folder: Path) -> list[Path]:
    """model.tflite, int8 throughout: input, output, activations a tensor, weights a channel."""
    path = folder / "model.tflite"
    path.write_bytes(quantized(export).read_bytes())
    correct_head(export, path)
    return [path]


def write_uint8(export: Export, folder: Path) -> list[Path]:
    """model.tflite, int8 within and uint8 at both ends: the image's own bytes go in, as older pipelines send them."""
    from converters import shared

    path = folder / "model.tflite"
    try:
        path.write_bytes(shared.source(export).read_bytes())
    except Unsupported:
        write_int8(export, folder)
    edit(path, _put_uint8_ends)
    return [path]


def quantized(export: Export) -> Path:
    """The int8 file of TensorFlow's converter, its ranges no wider than fused activations are, among the intermediate
    files; written by the first who asks."""

    def write(path: Path) -> None:
        write_quantized(export.integer, path)
        clip_ranges(path)

    return _written(export.scratch / "quantized.tflite", write)


def float_twin(export: Export) -> Path:
    """The float file of the network that is quantized, written by the first who asks."""
    return _written(export.scratch / "quantized_float.tflite", lambda path: write_float(export.integer, path))


def _written(path: Path, write: Callable[[Path], None]) -> Path:
    if not path.exists():
        unfinished = path.with_suffix(".part")
        write(unfinished)
        unfinished.rename(path)
    return path


def write_float(export: Export, path: Path) -> None:
    """The float32 file."""
    path.write_bytes(_converter(export).convert())


def write_quantized(export: Export, path: Path) -> None:
    """The int8 file as TensorFlow's converter gives it."""
    tf = require("tensorflow", extra="toolkit")
    converter = _converter(export)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image] for image in tensors(export.calibration, export.spec))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    # the compiler of the Edge TPU takes no matrix product with a scale a channel
    converter._experimental_disable_per_channel_quantization_for_dense_layers = True
    path.write_bytes(converter.convert())


def correct_head(export: Export, path: Path) -> None:
    """Take the mean error of the logits back in the bias of the last layer."""
    _add_bias(path, measure_shift(export, "litert", path))


def _converter(export: Export) -> Any:
    tf = require("tensorflow", extra="toolkit")
    return tf.lite.TFLiteConverter.from_concrete_functions([export.frozen])


def _put_uint8_ends(schema: Any, model: Any) -> None:
    """A QUANTIZE at either end, between int8 and the uint8 that is 128 more."""
    graph, code = model.subgraphs[0], schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.QUANTIZE
    code.version = 1
    model.operatorCodes.append(code)
    for ends, place in (("inputs", 0), ("outputs", len(graph.operators) + 1)):
        inner, outer, operator = int(getattr(graph, ends)[0]), schema.TensorT(), schema.OperatorT()
        twin = graph.tensors[inner]
        outer.name, outer.shape, outer.type = twin.name + b"_uint8", twin.shape, schema.TensorType.UINT8
        outer.quantization = schema.QuantizationParametersT()
        outer.quantization.scale = twin.quantization.scale
        outer.quantization.zeroPoint = [int(twin.quantization.zeroPoint[0]) + 128]
        outer.buffer = len(model.buffers)
        model.buffers.append(schema.BufferT())
        number = len(graph.tensors)
        graph.tensors.append(outer)
        operator.opcodeIndex = len(model.operatorCodes) - 1
        operator.inputs, operator.outputs = ([number], [inner]) if place == 0 else ([inner], [number])
        operator.builtinOptionsType = schema.BuiltinOptions.QuantizeOptions
        operator.builtinOptions = schema.QuantizeOptionsT()
        graph.operators.insert(place, operator)
        setattr(graph, ends, [number])
    for signature in model.signatureDefs or []:
        signature.inputs[0].tensorIndex, signature.outputs[0].tensorIndex = graph.inputs[0], graph.outputs[0]


def _add_bias(path: Path, shift: NDArray[np.float64]) -> None:
    """Add `shift` (classes,) to the logits through the int32 bias of the layer that gives them, if it has one."""

    def change(schema: Any, model: Any) -> None:
        graph = model.subgraphs[0]
        last = next(operator for operator in graph.operators if graph.outputs[0] in operator.outputs)
        bias = graph.tensors[last.inputs[2]] if len(last.inputs) == 3 and last.inputs[2] >= 0 else None
        if bias is None or bias.quantization is None or list(bias.shape) != [len(shift)]:
            return
        old = np.frombuffer(np.asarray(model.buffers[bias.buffer].data, np.uint8).tobytes(), np.int32)
        new = old + np.rint(shift / np.asarray(bias.quantization.scale)).astype(np.int32)
        # a buffer of its own: the converter lets tensors of equal content share one
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(new.astype(np.int32).tobytes(), np.uint8)
        bias.buffer = len(model.buffers)
        model.buffers.append(buffer)

    edit(path, change)
