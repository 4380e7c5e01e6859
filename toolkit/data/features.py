"""What a picture looks like, in numbers, without a neural network: edges, spots, lines, texture, light and colour.

Enough to find pictures that do not look like their class; for deciding on parts, train a network.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.manifest import InputSpec
from device_agent.preprocess import fit

SIDE = 96  # px: pictures are brought to this square first
_SPEC = InputSpec(height=SIDE, width=SIDE)
_QUANTILES = (0.001, 0.01, 0.1, 0.9, 0.99, 0.999)
_SCALES_PX = (1.0, 2.0, 4.0)
_ANGLES = np.arange(4) * np.pi / 4

Plane = NDArray[np.floating]


def describe(picture: NDArray[np.uint8]) -> NDArray[np.float16]:
    """Features of one picture (h, w, 3) uint8 RGB: (features,) float16, all of about the same size, finite.

    >>> describe(np.full((40, 24, 3), 128, np.uint8)).shape == describe(np.zeros((300, 300, 3), np.uint8)).shape
    True
    """
    small = fit(picture, _SPEC).astype(np.float32)
    red, green, blue = small[..., 0], small[..., 1], small[..., 2]
    grey = 0.299 * red + 0.587 * green + 0.114 * blue
    parts = [
        *_bank(grey),
        *_orientations(grey),
        *_texture(grey),
        *_light(grey),
        *_colour(red - green, (red + green) / 2 - blue),
    ]
    return np.concatenate(parts).astype(np.float16)


def _bank(grey: Plane) -> Iterator[Plane]:
    """Gaussian derivatives of three scales: directed edges and lines, and both curvatures of the surface (Lindeberg
    1998, Feature detection with automatic scale selection); a defect is in their extremes, a texture in the spread."""
    for sigma in _SCALES_PX:
        smooth = cv2.GaussianBlur(grey, (0, 0), sigma)
        dx, dy = (cv2.Sobel(smooth, cv2.CV_32F, *order, ksize=3, scale=sigma / 8) for order in ((1, 0), (0, 1)))
        dxx, dyy, dxy = (
            cv2.Sobel(smooth, cv2.CV_32F, *order, ksize=3, scale=sigma**2 / 4) for order in ((2, 0), (0, 2), (1, 1))
        )
        for angle in _ANGLES:
            cos, sin = np.cos(angle), np.sin(angle)
            yield _spread(cos * dx + sin * dy)
            yield _spread(cos**2 * dxx + 2 * cos * sin * dxy + sin**2 * dyy)
        middle, reach = (dxx + dyy) / 2, np.sqrt(((dxx - dyy) / 2) ** 2 + dxy**2)
        yield _spread(middle + reach)
        yield _spread(middle - reach)
        yield _spread(middle)


def _spread(plane: Plane) -> Plane:
    """Size and both tails of a plane; the square root keeps the strong from drowning the weak."""
    flat = np.sort(plane, axis=None)
    tails = flat[(np.array([0.0, *_QUANTILES, 1.0]) * (flat.size - 1)).astype(int)]
    scale = np.log1p(flat[int(0.9 * flat.size)] - flat[int(0.1 * flat.size)])
    return np.concatenate([np.sign(tails) * np.sqrt(np.abs(tails)), [scale, np.log1p(flat.std())]])


def _orientations(grey: Plane) -> Iterator[Plane]:
    """Histograms of oriented gradients in 4 x 4 cells (Dalal and Triggs 2005)."""
    dx, dy = cv2.Sobel(grey, cv2.CV_32F, 1, 0, ksize=3), cv2.Sobel(grey, cv2.CV_32F, 0, 1, ksize=3)
    size, angle = cv2.cartToPolar(dx, dy)
    place = np.arange(SIDE) // (SIDE // 4)
    cell = place[:, None] * 4 + place
    bins = (angle * (9 / np.pi)).astype(np.int64) % 9
    found = np.bincount((cell * 9 + bins).ravel(), size.ravel(), minlength=144).astype(np.float32)
    yield np.sqrt(found / (found.sum() + 1e-3)) * 10
    yield np.log1p(found.reshape(16, 9).sum(axis=1)) / 3


def _texture(grey: Plane) -> Iterator[Plane]:
    """Rotation-invariant uniform local binary patterns (Ojala et al. 2002) at three reaches, and DCT energies."""
    for reach in (1, 2, 4):
        smooth = cv2.GaussianBlur(grey, (0, 0), reach / 2)
        inner = smooth[reach:-reach, reach:-reach]
        steps = [(-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1)]
        ring = np.stack(
            [
                smooth[reach * (1 + down) : SIDE - reach * (1 - down), reach * (1 + along) : SIDE - reach * (1 - along)]
                >= inner
                for down, along in steps
            ]
        )
        changes = (ring != np.roll(ring, 1, axis=0)).sum(axis=0)
        code = np.where(changes <= 2, ring.sum(axis=0), 9)
        yield np.sqrt(np.bincount(code.ravel(), minlength=10) / code.size).astype(np.float32) * 5
    energy = np.log1p(np.abs(cv2.dct(grey)))
    yield energy[:8, :8].ravel()[1:] / 2
    bands = energy.reshape(8, SIDE // 8, 8, SIDE // 8).mean(axis=(1, 3))
    yield bands.ravel()[1:]


def _light(grey: Plane) -> Iterator[Plane]:
    """Brightness and contrast in 6 x 6 cells, and the quantiles of the whole."""
    cells = grey.reshape(6, SIDE // 6, 6, SIDE // 6)
    yield cells.mean(axis=(1, 3)).ravel() / 50
    yield np.log1p(cells.std(axis=(1, 3))).ravel()
    yield np.quantile(grey, np.linspace(0, 1, 11)).astype(np.float32) / 50


def _colour(*opponents: Plane) -> Iterator[Plane]:
    """Two opponent colours in 4 x 4 cells, and their tails where they are smooth."""
    for plane in opponents:
        yield plane.reshape(4, SIDE // 4, 4, SIDE // 4).mean(axis=(1, 3)).ravel() / 10
        yield _spread(np.asarray(cv2.GaussianBlur(plane, (0, 0), 2.0)))
