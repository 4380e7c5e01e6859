"""Take the mean error out of a quantized model's logits.

Rounding shifts the mean of what a layer gives, and the shifts add up to the logits, where they favour one class over
another (Nagel et al. 2019, Data-free quantization through weight equalization and bias correction). Whatever happened
on the way, the bias of the last layer can take back what is left of it there: one figure a class, measured through the
device's own runtime on the calibration images.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from converters.keras_export import Export
from device_agent.runtimes import logits, open_runtime


def measure_shift(export: Export, runtime: str, path: Path) -> NDArray[np.float64]:
    """What to add to each logit of the model at `path` so that its mean is that of Keras: (classes,) float64."""
    model = open_runtime(runtime, path, export.spec)
    got = np.array([logits(model, image) for image in export.calibration])
    model.close()
    return np.asarray((export.calibration_logits - got).mean(axis=0, dtype=np.float64))
