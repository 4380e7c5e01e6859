"""Parts of a picture that nobody may see: gone before it is written anywhere."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from device_agent.samples.settings import Zone


def hide(image: NDArray[np.uint8], blur: Sequence[Zone], crop: Zone | None = None) -> NDArray[np.uint8]:
    """A copy with each zone of `blur` filled with its mean colour, then cut to `crop`. No more than one colour of a
    zone is left: a blur that nothing can sharpen. Zones are rounded so that no pixel that they touch is shown.

    Args:
        image: (height, width, channels) uint8.

    >>> hide(np.arange(16, dtype=np.uint8).reshape(4, 4, 1), [Zone(0, 0, 0.5, 0.5)])[:, :, 0].tolist()
    [[2, 2, 2, 3], [2, 2, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15]]
    """
    out = image.copy()
    height, width = image.shape[:2]
    for zone in blur:
        top, bottom = _outward(zone.y, zone.height, height)
        left, right = _outward(zone.x, zone.width, width)
        part = out[top:bottom, left:right]
        part[...] = np.round(part.mean(axis=(0, 1)))
    if crop is not None:
        top, bottom = _inward(crop.y, crop.height, height)
        left, right = _inward(crop.x, crop.width, width)
        out = out[top:bottom, left:right]
    return out


def _outward(start: float, share: float, size: int) -> tuple[int, int]:
    first = min(math.floor(start * size), size - 1)
    return first, max(first + 1, min(math.ceil((start + share) * size), size))


def _inward(start: float, share: float, size: int) -> tuple[int, int]:
    first = min(math.ceil(start * size), size - 1)
    return first, max(first + 1, min(math.floor((start + share) * size), size))
