"""One quantization for three runtimes: the integers of the int8 .tflite file, in ONNX and in OpenVINO."""

from __future__ import annotations

from pathlib import Path

from converters.calibration import tensors
from converters.keras_export import Export
from converters.shared.graph import Unsupported
from device_agent.contract.errors import BadInput


def source(export: Export) -> Path:
    """The int8 .tflite file that all runtimes share, written by the first who asks for these ranges."""
    from converters.shared.exact import make_exact
    from converters.tflite import correct_head, float_twin, quantized

    path = export.scratch / f"shared-{export.ranges}.tflite"
    if not path.exists():
        unfinished, spec = path.with_suffix(".part"), export.spec
        unfinished.write_bytes(quantized(export).read_bytes())
        make_exact(
            unfinished,
            float_twin(export),
            spec,
            lambda: tensors(export.calibration, spec),
            ranges=export.ranges,
        )
        try:
            correct_head(export, unfinished)
        except BadInput as error:
            raise Unsupported(f"LiteRT does not run it: {str(error).partition(': ')[2]}") from error
        unfinished.rename(path)
    return path


def write(runtime: str, export: Export, folder: Path) -> list[Path]:
    """The shared quantization as files for "litert", "onnx" or "openvino", as a converter writes them.

    Raises:
        Unsupported: the network has an operator that the translations have not.
    """
    from converters.openvino import save
    from converters.shared import onnx, openvino

    if runtime == "openvino":
        return save(openvino.translate(source(export), export.spec), folder)
    path = folder / ("model.onnx" if runtime == "onnx" else "model.tflite")
    if runtime == "onnx":
        path.write_bytes(onnx.translate(source(export), export.spec).SerializeToString())
    else:
        path.write_bytes(source(export).read_bytes())
    return [path]
