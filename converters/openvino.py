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
from device_agent.contract.optional import require


def write_fp16(export: Export, folder: Path) -> list[Path]:
    """model.xml and model.bin with the weights in fp16; the CPU computes in float32."""
    return _save(_float_model(export), folder, compress_to_fp16=True)


def write_int8(export: Export, folder: Path) -> list[Path]:
    """model.xml and model.bin with int8 weights a channel and 8-bit activations a tensor, float32 input and output."""
    nncf = require("nncf", extra="toolkit")
    parameters = require("nncf.quantization.advanced_parameters", extra="toolkit")
    estimators = require("nncf.quantization.range_estimator", extra="toolkit")
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
    files = _save(model, folder, compress_to_fp16=False)
    _add_bias(model, measure_shift(export, "openvino", files[0]))
    return _save(model, folder, compress_to_fp16=False)


def _float_model(export: Export) -> Any:
    ov = require("openvino", extra="toolkit")
    graph = export.scratch / "frozen.pb"
    if not graph.exists():
        graph.write_bytes(export.frozen.graph.as_graph_def().SerializeToString())
    model = ov.convert_model(str(graph))
    model.inputs[0].get_tensor().set_names({"image"})
    model.outputs[0].get_tensor().set_names({"logits"})
    return model


def _save(model: Any, folder: Path, *, compress_to_fp16: bool) -> list[Path]:
    ov = require("openvino", extra="toolkit")
    path = folder / "model.xml"
    try:
        ov.save_model(model, str(path), compress_to_fp16=compress_to_fp16)
    except RuntimeError as error:
        raise NotWritable(f"{path}: OpenVINO cannot write it: {str(error).strip().splitlines()[-1]}") from error
    return [path, path.with_suffix(".bin")]


def _add_bias(model: Any, shift: NDArray[np.float64]) -> None:
    """Add `shift` (classes,) to the logits."""
    opset = require("openvino.opset13", extra="toolkit")
    port = model.get_results()[0].input(0)
    logits = port.get_source_output()
    corrected = opset.add(logits, opset.constant(shift[None].astype(np.float32)))
    logits.get_tensor().set_names(set())
    corrected.output(0).get_tensor().set_names({"logits"})
    port.replace_source_output(corrected.output(0))
