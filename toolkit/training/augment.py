"""What may happen to a training image: only what the line itself can produce."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
Flips = Literal["none", "left-right", "up-down", "both"]
FLIPS: dict[Flips, tuple[tuple[int, int], ...]] = {  # how rows and columns are read: forwards (1) or backwards (-1)
    "none": ((1, 1),),
    "left-right": ((1, 1), (1, -1)),
    "up-down": ((1, 1), (-1, 1)),
    "both": ((1, 1), (1, -1), (-1, 1), (-1, -1)),
}


def flip(images: Images, rows: int, columns: int) -> Images:
    """Images (n, h, w, c) read forwards (1) or backwards (-1) along rows and columns.

    >>> flip(np.arange(4, dtype=np.uint8).reshape(1, 2, 2, 1), -1, 1).ravel().tolist()
    [2, 3, 0, 1]
    """
    return images[:, ::rows, ::columns]


def vary(
    images: Images, rng: np.random.Generator, *, flips: Flips = "both", shift: float = 0.06, light: float = 0.12
) -> Images:
    """A copy of images (n, h, w, c) uint8, each mirrored at random as `flips` allows, shifted by up to `shift` of its
    side (the border mirrored), and with brightness and contrast changed by up to `light`.

    >>> batch = np.full((2, 8, 8, 3), 100, np.uint8)
    >>> vary(batch, np.random.default_rng(0), light=0).tolist() == batch.tolist()
    True
    """
    out = np.empty_like(images)
    turned = np.min(FLIPS[flips], axis=0)  # -1 where an axis may be read backwards
    for row, image in enumerate(images):
        rows, columns = np.where(rng.random(2) < 0.5, 1, turned)
        out[row] = _shifted(image[::rows, ::columns], rng, shift)
    if not light:
        return out
    gain = rng.uniform(1 - light, 1 + light, (len(images), 1, 1, 1)).astype(np.float32)
    lift = rng.uniform(-light, light, (len(images), 1, 1, 1)).astype(np.float32) * 128
    lit = np.rint((out - np.float32(128)) * gain + 128 + lift)
    return np.asarray(np.clip(lit, 0, 255), np.uint8)


def _shifted(image: Images, rng: np.random.Generator, shift: float) -> Images:
    height, width = image.shape[:2]
    reach = max(1, round(shift * min(height, width)))
    padded = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    top, left = rng.integers(0, 2 * reach + 1, 2)
    return padded[top : top + height, left : left + width]
