"""The layers of a LiteRT file whose rounding harms the answers most, kept in float."""

from __future__ import annotations

import functools
from pathlib import Path

from converters.keras_export import Export
from converters.layer_noise import Noise, measure_noise
from converters.mixed_graph import INPUT, true_constants
from converters.quantization_fixes import Patient, keep_float
from converters.tflite import correct_head, float_twin, quantized
from converters.tflite_file import read_graph

IMAGES = 32
"""Calibration images on which the harm of a layer is measured: none of those that judge the artifact."""


class FloatLayers:
    """The int8 file of a model, with some of its layers in float; what each layer harms is measured once."""

    def __init__(self, export: Export) -> None:
        """Take the model with its calibration images."""
        self._export = export

    @functools.cached_property
    def _patient(self) -> Patient:
        # not the shared file: units of its tensors are free, and float kernels would not fit them
        path, export = quantized(self._export), self._export
        graph = read_graph(path)
        floats = true_constants(graph, read_graph(float_twin(export)))
        step = max(len(export.calibration) // IMAGES, 1)
        noise: Noise = measure_noise(path, floats, export.calibration[::step][:IMAGES], export.spec)
        return Patient(path, graph, floats, export.spec, noise)

    def write(self, count: int, target: Path) -> list[str]:
        """Write the file with the `count` most harmful layers, and those that read them, in float; their names.

        Nothing is written, and no name comes back, where that were half of the layers or more.
        """
        layers = [each for each in self._patient.noise.layers if each.number != INPUT]
        if 2 * count >= len(layers):
            return []
        worst = sorted(layers, key=lambda each: -each.harm)[:count]
        keep_float([each.number for each in worst])(self._patient, target)
        correct_head(self._export, target)
        return [each.name for each in worst]
