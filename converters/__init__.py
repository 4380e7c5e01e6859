"""Converters: a trained Keras model becomes one artifact for one runtime. Nothing is imported until chosen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from device_agent.contract.plugins import Seam

if TYPE_CHECKING:
    from converters.keras_export import Export

CONVERTERS = Seam(
    "converters",
    {
        "litert-fp32": "converters.tflite:write_fp32",
        "litert-int8": "converters.tflite:write_int8",
        "litert-uint8": "converters.tflite:write_uint8",
        "onnx-fp32": "converters.onnx:write_fp32",
        "onnx-fp16": "converters.onnx:write_fp16",
        "onnx-int8": "converters.onnx:write_int8",
        "openvino-fp16": "converters.openvino:write_fp16",
        "openvino-int8": "converters.openvino:write_int8",
    },
)
RECIPE = 11  # counts up when the same model is to give other files or another record: artifacts are then made anew
Progress = Callable[[str], None]


class Converter(Protocol):
    """A name is "<runtime>-<precision>", and a converter a function that writes the files into `folder`.

    The first file that it returns is the one that the runtime opens; the model ends in logits, (1, h, w, c) or
    (1, c, h, w) float32 or quantized in, (1, classes) out.
    """

    def __call__(self, export: Export, folder: Path) -> list[Path]:
        """Paths of the files written."""
        ...
