"""What goes wrong with a picture on a line, in five severities: noise, blur, dirt, light, compression.

The numbers are those of ImageNet-C (Hendrycks & Dietterich 2019, "Benchmarking neural network robustness to common
corruptions and perturbations"), made for 224 px. A blur is given in px, so it has to follow the size of the picture:
its width lies on the straight line through the authors' own two values, for 32 px (CIFAR-10-C) and for 224 px.
Lens dirt, underexposure, vignetting and uneven light are not in ImageNet-C; their numbers were chosen for lineside.

Each kind is a pure function of picture, severity and generator. It draws the same random numbers at every severity, so
that from one seed a higher severity is the same fault, only worse.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput

Image = NDArray[np.uint8]
Field = NDArray[np.float32]
Corruption = Callable[[Image, int, np.random.Generator], Image]
Lens = int | Sequence[int]

SEVERITIES = (1, 2, 3, 4, 5)


class Ladder(NamedTuple):
    """Widths in px for severities 1 to 5, of a picture whose shorter side is 32 px and of one with 224 px."""

    at_32: tuple[float, float, float, float, float]
    at_224: tuple[float, float, float, float, float]

    def px(self, image: Image, severity: int) -> float:
        """The width for this picture; one of less than 32 px gets that of 32 px."""
        low, high = self.at_32[severity - 1], self.at_224[severity - 1]
        side = max(32, int(min(image.shape[0], image.shape[1])))
        return low + (high - low) * (side - 32) / 192


GAUSSIAN_NOISE = (0.08, 0.12, 0.18, 0.26, 0.38)  # standard deviation, 1 = white
SHOT_NOISE = (60, 25, 12, 5, 3)  # photons of a white pixel
IMPULSE_NOISE = (0.03, 0.06, 0.09, 0.17, 0.27)  # share of values that are black or white
GAUSSIAN_BLUR = Ladder((0.4, 0.6, 0.7, 0.8, 1.0), (1, 2, 3, 4, 6))  # standard deviation
DEFOCUS = Ladder((0.8, 1.0, 1.2, 1.33, 1.65), (3, 4, 6, 8, 10))
"""Radius of the disc; at 32 px that of the disc as wide as the blurred coarse one of CIFAR-10-C."""
MOTION = Ladder((1, 1.5, 2, 2.25, 2.5), (3, 5, 8, 12, 15))
"""Standard deviation of the trail; CIFAR-10-C has 2 for severity 4 too, with a longer kernel."""
OVEREXPOSURE = (0.1, 0.2, 0.3, 0.4, 0.5)  # added to the value of HSV; ImageNet-C calls it brightness
UNDEREXPOSURE = (0.5, 1.0, 1.5, 2.0, 3.0)  # stops
CONTRAST = (0.4, 0.3, 0.2, 0.1, 0.05)  # what is left of it
JPEG = (25, 18, 15, 10, 7)  # quality
PIXELATE = (0.6, 0.5, 0.4, 0.3, 0.25)  # side, as a share
VIGNETTING = (0.25, 0.4, 0.55, 0.7, 0.85)  # light lost in the corners
UNEVEN_LIGHT = (0.15, 0.3, 0.45, 0.6, 0.75)  # light lost at the far side
SPECKS, SMEARS = (6, 10, 15, 21, 28), (1, 2, 3, 4, 5)
DIRT = (0.5, 0.6, 0.7, 0.8, 0.9)  # thickness


def corrupt(image: Image, kind: str, severity: int, rng: np.random.Generator, *, lens: Lens | None = None) -> Image:
    """A corrupted copy of one picture: uint8 of the same shape.

    Args:
        image: (h, w, 3) RGB or (h, w, 1) grey, uint8.
        kind: a name in KINDS.
        severity: 1 to 5.
        rng: every random draw is from it; the same state gives the same picture.
        lens: seed, 0 or more, of what stays where it is from picture to picture (the kinds in FIXED). Without it, that
            too is drawn from `rng`.

    >>> flat = np.full((32, 32, 3), 100, np.uint8)
    >>> [int(corrupt(flat, "overexposure", s, np.random.default_rng(0))[0, 0, 0]) for s in SEVERITIES]
    [126, 151, 176, 202, 228]

    Raises:
        BadInput: no such kind or severity, or an array of another type or shape.
    """
    check(kind, severity)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3) or min(image.shape) < 1:
        raise BadInput(f"a picture must be uint8 (h, w, 3) or (h, w, 1), got {image.dtype} {image.shape}")
    if lens is not None and kind in FIXED:
        rng = np.random.default_rng(lens)
    return KINDS[kind](np.ascontiguousarray(image), severity, rng)


def check(kind: str, severity: int) -> None:
    """Refuse what does not exist.

    Raises:
        BadInput: no such kind or severity.
    """
    if kind not in KINDS:
        raise BadInput(f"no corruption {kind!r}; known are {', '.join(KINDS)}")
    if severity not in SEVERITIES:
        raise BadInput(f"severity must be 1 to 5, got {severity}")


def gaussian_noise(image: Image, severity: int, rng: np.random.Generator) -> Image:
    """Noise of the electronics, the same at every brightness."""
    noise = rng.standard_normal(image.shape, np.float32)
    return _bytes(image + noise * np.float32(255 * GAUSSIAN_NOISE[severity - 1]))


def shot_noise(image: Image, severity: int, rng: np.random.Generator) -> Image:
    """Noise of too few photons: it grows with the root of the brightness."""
    photons = SHOT_NOISE[severity - 1]
    return _bytes(rng.poisson(image * (photons / 255)) * np.float32(255 / photons))


def impulse_noise(image: Image, severity: int, rng: np.random.Generator) -> Image:
    """Values that fail, half to black and half to white."""
    fate, salt = rng.random(image.shape, np.float32), rng.random(image.shape, np.float32) < 0.5
    return np.where(fate < IMPULSE_NOISE[severity - 1], np.where(salt, 255, 0), image).astype(np.uint8)


def defocus(image: Image, severity: int, rng: np.random.Generator) -> Image:
    """A lens out of focus: each point becomes a disc."""
    return _filtered(image, _disc(DEFOCUS.px(image, severity)))


def gaussian_blur(image: Image, severity: int, rng: np.random.Generator) -> Image:
    """A soft picture."""
    sigma = GAUSSIAN_BLUR.px(image, severity)
    soft = cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(soft, np.uint8).reshape(image.shape)


def motion(image: Image, severity: int, rng: np.random.Generator) -> Image:
    """A part that moved while the shutter was open, at most 45 degrees off the horizontal."""
    return _filtered(image, _trail(MOTION.px(image, severity), float(rng.uniform(-np.pi / 4, np.pi / 4))))


def lens_dirt(image: Image, severity: int, rng: np.random.Generator) -> Image:
    """Specks that darken and smears that blur and veil; `rng` alone says where, so one lens keeps its dirt."""
    speck, smear = _dirt(image.shape[:2], severity, rng)
    side = min(image.shape[:2])
    scene = image.astype(np.float32)
    soft = cv2.GaussianBlur(scene, (0, 0), max(0.8, 0.04 * side)).reshape(image.shape)
    veil = 0.5 * soft + 0.5 * np.float32(190)
    scene += (0.5 * soft + 0.5 * veil - scene) * smear[:, :, None]
    return _bytes(scene * (1 - speck[:, :, None]))


def overexposure(image: Image, severity: int, rng: np.random.Generator) -> Image:
    """Too much light: the brightest channel is lifted by a fixed amount, the others in proportion; white is lost."""
    value = image.max(axis=2, keepdims=True).astype(np.float32)
    lifted = np.minimum(value + 255 * OVEREXPOSURE[severity - 1], 255)
    return _bytes(np.where(value > 0, image * (lifted / np.maximum(value, 1)), lifted))


def underexposure(image: Image, severity: int, rng: np.random.Generator) -> Image:
    """Too little light: fewer stops of linear light (sRGB, IEC 61966-2-1), rounded to bytes again."""
    level = np.arange(256) / 255
    linear = np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)
    linear *= 2.0 ** -UNDEREXPOSURE[severity - 1]
    dark = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return _bytes(255 * dark)[image]


def contrast(image: Image, severity: int, rng: np.random.Generator) -> Image:
    """Fog: every value nearer to the mean of its channel."""
    mean = image.mean(axis=(0, 1), dtype=np.float64).astype(np.float32)
    return _bytes((image - mean) * np.float32(CONTRAST[severity - 1]) + mean)


def jpeg(image: Image, severity: int, rng: np.random.Generator) -> Image:
    """A camera or a store that compresses too much."""
    data = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG[severity - 1]])[1]
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR if image.shape[2] == 3 else cv2.IMREAD_GRAYSCALE)
    return np.ascontiguousarray(np.asarray(decoded, np.uint8).reshape(image.shape)[:, :, ::-1])


def pixelate(image: Image, severity: int, rng: np.random.Generator) -> Image:
    """A picture that was once smaller."""
    rows, columns = (_cells(count, PIXELATE[severity - 1]) for count in image.shape[:2])
    total = np.add.reduceat(np.add.reduceat(image.astype(np.float64), rows, axis=0), columns, axis=1)
    tall, wide = (np.diff(starts, append=count) for starts, count in zip((rows, columns), image.shape[:2], strict=True))
    mean = _bytes(total / (tall[:, None] * wide)[:, :, None])
    return mean.repeat(tall, axis=0).repeat(wide, axis=1)


def vignetting(image: Image, severity: int, rng: np.random.Generator) -> Image:
    """A lens that passes less light towards the corners, about a centre that is a little off."""
    down, right = _grid(image.shape[:2])
    y, x = rng.uniform(-0.15, 0.15, 2)
    away = (down - y) ** 2 + (right - x) ** 2
    return _bytes(image * (1 - VIGNETTING[severity - 1] * (away / away.max()))[:, :, None])


def uneven_light(image: Image, severity: int, rng: np.random.Generator) -> Image:
    """A lamp at one side: from there, light falls off across the picture."""
    down, right = _grid(image.shape[:2])
    angle = rng.uniform(0, 2 * np.pi)
    along = np.sin(angle) * down + np.cos(angle) * right
    along = (along - along.min()) / max(float(np.ptp(along)), 1e-6)
    return _bytes(image * (1 - UNEVEN_LIGHT[severity - 1] * along)[:, :, None].astype(np.float32))


KINDS: dict[str, Corruption] = {
    "gaussian-noise": gaussian_noise,
    "shot-noise": shot_noise,
    "impulse-noise": impulse_noise,
    "defocus": defocus,
    "gaussian-blur": gaussian_blur,
    "motion": motion,
    "lens-dirt": lens_dirt,
    "overexposure": overexposure,
    "underexposure": underexposure,
    "contrast": contrast,
    "jpeg": jpeg,
    "pixelate": pixelate,
    "vignetting": vignetting,
    "uneven-light": uneven_light,
}
FIXED = frozenset({"lens-dirt", "vignetting", "uneven-light"})
"""Kinds that belong to a lens or a lamp and not to the moment: the same in every picture of one camera."""


def _dirt(size: tuple[int, int], severity: int, rng: np.random.Generator) -> tuple[Field, Field]:
    """How much each pixel is darkened and smeared: two (h, w) float32 in [0, 1]; all dirt is drawn, the worst case, and
    the first pieces of it are used."""
    down, right = _grid(size)
    spots, wipes = rng.random((SPECKS[-1], 4)), rng.random((SMEARS[-1], 6))
    clear = np.ones(size, np.float32)
    for y, x, width, depth in spots[: SPECKS[severity - 1]]:
        radius, dy, dx = 0.03 + 0.09 * width**2, down - (2 * y - 1), right - (2 * x - 1)
        rows, columns = np.abs(dy[:, 0]) < 1.8 * radius, np.abs(dx[0]) < 1.8 * radius
        away = (np.square(dy[rows]) + np.square(dx[:, columns])) / radius**2
        clear[np.ix_(rows, columns)] *= 1 - np.float32(0.4 + 0.6 * depth) * np.exp(-np.square(away))
    smeared = np.zeros(size, np.float32)
    for y, x, angle, length, width, depth in wipes[: SMEARS[severity - 1]]:
        dy, dx, turn = down - (2 * y - 1), right - (2 * x - 1), np.pi * angle
        along, across = np.cos(turn) * dx + np.sin(turn) * dy, np.cos(turn) * dy - np.sin(turn) * dx
        away = (along / (0.4 + 0.6 * length)) ** 2 + (across / (0.1 + 0.25 * width)) ** 2
        smeared = np.maximum(smeared, ((0.6 + 0.4 * depth) * np.exp(-away)).astype(np.float32))
    return (1 - clear) * np.float32(DIRT[severity - 1]), smeared * np.float32(DIRT[severity - 1])


def _grid(size: tuple[int, int]) -> tuple[Field, Field]:
    """Rows (h, 1) and columns (1, w) float32; the longer side reaches from -1 to 1, so that a circle stays one."""
    height, width = size
    half = max(height, width) / 2
    rows, columns = (np.arange(count, dtype=np.float32) + 0.5 - count / 2 for count in size)
    return (rows / half)[:, None], (columns / half)[None, :]


def _cells(count: int, share: float) -> NDArray[np.intp]:
    """Where each of count * share cells begins: (cells,) ascending from 0."""
    cells = max(1, int(count * share))
    return np.arange(cells) * count // cells


def _disc(radius: float) -> Field:
    """The share of each pixel that a disc covers, 9 x 9 points a pixel: odd and square, sum 1."""
    reach = int(np.ceil(radius + 0.5))
    side = 2 * reach + 1
    at = (np.arange(9 * side) + 0.5) / 9 - side / 2
    inside = (at[:, None] ** 2 + at[None, :] ** 2 <= radius**2).reshape(side, 9, side, 9).mean(axis=(1, 3))
    return np.asarray(inside / inside.sum(), np.float32)


def _trail(sigma: float, angle: float) -> Field:
    """One half of a Gaussian laid along a line through the middle, as ImageNet-C draws motion: odd and square, sum 1.

    The line is moved so that its centre of mass stays in place."""
    at = np.arange(0, 2.5 * sigma, 0.1)
    weight = np.exp(-0.5 * (at / sigma) ** 2)
    at -= np.average(at, weights=weight)
    reach = int(np.ceil(np.abs(at).max())) + 1
    out = np.zeros((2 * reach + 1, 2 * reach + 1))
    y, x = reach + at * np.sin(angle), reach + at * np.cos(angle)
    top, left = np.floor(y).astype(int), np.floor(x).astype(int)
    for row, near_y in ((top, 1 - (y - top)), (top + 1, y - top)):
        for column, near_x in ((left, 1 - (x - left)), (left + 1, x - left)):
            np.add.at(out, (row, column), weight * near_y * near_x)
    return np.asarray(out / out.sum(), np.float32)


def _filtered(image: Image, kernel: Field) -> Image:
    blurred = cv2.filter2D(image, cv2.CV_32F, kernel, borderType=cv2.BORDER_REFLECT_101)
    return _bytes(np.asarray(blurred, np.float32).reshape(image.shape))


def _bytes(levels: NDArray[np.floating]) -> Image:
    return np.asarray(np.clip(np.rint(levels), 0, 255), np.uint8)
