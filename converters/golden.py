"""Known answers: the logits that an artifact gives for a few images, taken once and carried with it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import ParityFailed
from device_agent.contract.manifest import Golden, InputSpec
from device_agent.runtimes import logits, open_runtime

GOLDEN_IMAGES = 8
TOLERANCE = {"fp32": 0.01, "fp16": 0.03, "int8": 0.08}
"""Largest difference of a golden logit that counts as equal, as a share of the spread of all golden logits. Arm and x86
kernels round differently; a damaged or wrong model is off by about the whole spread."""


def golden_answers(runtime: str, precision: str, path: Path, spec: InputSpec, images: NDArray[np.uint8]) -> Golden:
    """Logits of images (n, h, w, c) uint8, made by the device's runtime, with the tolerance of the precision.

    Raises:
        ParityFailed: the answers do not depend on the image, so they would prove nothing.
    """
    model = open_runtime(runtime, path, spec)
    try:
        answers = np.array([logits(model, image) for image in images])
    finally:
        model.close()
    spread = float(np.ptp(answers))
    if not np.isfinite(spread) or float(np.ptp(answers, axis=0).max()) < 1e-6:
        raise ParityFailed(f"{path}: gives the same answer for every golden image")
    return Golden(answers.astype(float).round(5).tolist(), round(TOLERANCE[precision] * spread, 5))


def images_sha256(images: NDArray[np.uint8]) -> str:
    """Digest of images (n, h, w, c) uint8, in hexadecimal."""
    return hashlib.sha256(f"{images.shape}".encode() + images.tobytes()).hexdigest()
