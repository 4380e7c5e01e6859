"""Image quality from a thumbnail: an alert can then say lens, light or product."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

THUMBNAIL_PX = 64


class Quality(NamedTuple):
    """Brightness 0 to 255; sharpness, the variance of the Laplacian; share of pixels at the limits, 0 to 1."""

    brightness: float
    sharpness: float
    clipped: float


def measure(image: NDArray[np.uint8]) -> Quality:
    """Quality of a frame (h, w, 1 or 3) uint8, from every k-th pixel so that about 64 remain a side.

    >>> measure(np.full((96, 96, 3), 255, np.uint8))
    Quality(brightness=255.0, sharpness=0.0, clipped=1.0)
    """
    step = max(1, min(image.shape[:2]) // THUMBNAIL_PX)
    small = image[::step, ::step].astype(np.int16)
    grey = small[:, :, 0] if small.shape[2] == 1 else (small[:, :, 0] + 2 * small[:, :, 1] + small[:, :, 2]) >> 2
    middle = grey[1:-1, 1:-1]
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * middle
    clipped = np.count_nonzero((grey == 0) | (grey == 255)) / grey.size
    return Quality(float(grey.mean()), float(laplacian.var()) if laplacian.size else 0.0, float(clipped))
