"""OpenVINO's own format: model.xml, with its weights in model.bin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.calibration import tensors
from converters.head_bias import measure_shift
from converters.keras_export import Export
from device_agent.contract.errors import NotWritable
from device_agent.runtimes.silence import require_silent


def write_fp16(export: Export, folder: Path) -> list[Path]:
    """model.xml and model.bin with the weights in fp16; the CPU computes in float32.

    Depthwise kernels, 2 % of the bytes, stay float32. They difference neighbouring pixels: where large weights cancel,
    the rounding of each is left over, and in MobileNetV2's first block that alone moved the logits by 3 % of their
    spread.
    """
    model = _float_model(export)
    _halve(model)
    return save(model, folder)


def write_int8(export: Export, folder: Path) -> list[Path]:
    """model.xml and model.bin with int8 weights a channel and 8-bit activations a tensor, float32 input and output."""
    nncf = require_silent("nncf", extra="toolkit")
    parameters = require_silent("nncf.quantization.advanced_parameters", extra="toolkit")
    estimators = require_silent("nncf.quantization.range_estimator", extra="toolkit")
    # NNCF's default averages the extremes of the images, which clips what is rare: the defects
    minmax = estimators.RangeEstimatorParametersSet.MINMAX
    model = nncf.quantize(
        _float_model(export),
        nncf.Dataset(list(tensors(export.calibration, export.spec))),
        subset_size=len(export.calibration),
        advanced_parameters=parameters.AdvancedQuantizationParameters(
            activations_range_estimator_params=minmax, weights_range_estimator_params=minmax
        ),
    )
    files = save(model, folder)
    _add_bias(model, measure_shift(export, "openvino", files[0]))
    return save(model, folder)


def _float_model(export: Export) -> Any:
    ov = require_silent("openvino", extra="toolkit")
    graph = export.scratch / "frozen.pb"
    if not graph.exists():
        graph.write_bytes(export.frozen.graph.as_graph_def().SerializeToString())
    model = ov.convert_model(str(graph))
    model.inputs[0].get_tensor().set_names({"image"})
    model.outputs[0].get_tensor().set_names({"logits"})
    return model


def _halve(model: Any) -> None:
    """Store the weights of full convolutions and matrix products as fp16, each followed by a conversion to float32."""
    ov = require_silent("openvino", extra="toolkit")
    opset = require_silent("openvino.opset13", extra="toolkit")
    for node in model.get_ops():
        if node.get_type_name() not in ("Convolution", "MatMul"):
            continue
        weights = node.input(1).get_source_output()
        if weights.get_node().get_type_name() == "Constant" and weights.get_element_type() == ov.Type.f32:
            half = opset.constant(weights.get_node().data.astype(np.float16))
            node.input(1).replace_source_output(opset.convert(half, "f32").output(0))


def save(model: Any, folder: Path) -> list[Path]:
    """Write an `openvino.Model` as model.xml and model.bin, the same bytes for the same model.

    Raises:
        NotWritable: the disk is full, read-only or forbids it.
    """
    ov = require_silent("openvino", extra="toolkit")
    path = folder / "model.xml"
    for number, node in enumerate(model.get_ordered_ops()):  # their own names count on through the process
        node.set_friendly_name(f"{node.get_type_name()}{number}")
    try:
        ov.save_model(model, str(path), compress_to_fp16=False)
    except RuntimeError as error:
        raise NotWritable(f"{path}: OpenVINO cannot write it: {str(error).strip().splitlines()[-1]}") from error
    return [path, path.with_suffix(".bin")]


def _add_bias(model: Any, shift: NDArray[np.float64]) -> None:
    """Add `shift` (classes,) to the logits."""
    opset = require_silent("openvino.opset13", extra="toolkit")
    port = model.get_results()[0].input(0)
    logits = port.get_source_output()
    corrected = opset.add(logits, opset.constant(shift[None].astype(np.float32)))
    logits.get_tensor().set_names(set())
    corrected.output(0).get_tensor().set_names({"logits"})
    port.replace_source_output(corrected.output(0))
