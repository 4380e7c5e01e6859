"""Drawn photographs of metal parts: brushed or milled, good or with one of four defects, and dirt on the lens.

A part is drawn once (`make_part`) and photographed as often as wanted (`photograph`); `draw` does both. Faint defects
belong to the picture: a scratch can be as weak as the grain around it, and good parts carry harmless streaks and dust.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from device_agent.frames.marks import DEFECTS, blemishes, cloud, grid

Image = NDArray[np.uint8]
Field = NDArray[np.float32]

KINDS = ("good", *DEFECTS)
MARGIN_PX = 4  # how far a photograph may be shifted on its part
_UNIT_PX = 96  # the lengths below are given for an image of this side, and grow with it


class Finish(NamedTuple):
    """How a product's surface looks: mean reflectance 0 to 1, tint (red, green, blue), amplitudes as shares of the
    mean, length of a brush mark and pitch of the milled grooves in px of a 96 px image."""

    level: float
    tint: tuple[float, float, float]
    brush: float
    grain: float
    cloud: float
    mark_px: float
    groove: float
    pitch_px: float


FINISHES = (
    Finish(0.56, (0.97, 1.0, 1.04), brush=0.075, grain=0.030, cloud=0.045, mark_px=44, groove=0.0, pitch_px=1),
    Finish(0.58, (1.04, 1.0, 0.89), brush=0.017, grain=0.048, cloud=0.04, mark_px=0, groove=0.05, pitch_px=12),
    Finish(0.66, (1.0, 1.0, 1.0), brush=0.0, grain=0.095, cloud=0.05, mark_px=0, groove=0.0, pitch_px=1),
)
"""Product 0 is brushed steel, 1 face-milled bronze, 2 blasted aluminium."""


def draw(
    rng: np.random.Generator, kind: str, *, size: int = _UNIT_PX, product: int = 0, light: float = 1.0, camera: int = 0
) -> Image:
    """One photograph of a new part: (size, size, 3) uint8 RGB.

    >>> draw(np.random.default_rng(0), "scratch").shape
    (96, 96, 3)

    Raises:
        BadInput: a kind or product that does not exist.
    """
    return photograph(rng, make_part(rng, kind, size=size, product=product), light=light, camera=camera)


def make_part(
    rng: np.random.Generator, kind: str, *, size: int = _UNIT_PX, product: int = 0, contrast: float = 1.0
) -> Field:
    """Reflectance of a new part: (size + 8, size + 8, 3) float32 RGB around 0.5, to be photographed at `size`.

    A defect changes it by `contrast` times what it usually does; 2 makes even faint ones easy to see.

    Raises:
        BadInput: a kind or product that does not exist.
    """
    if kind not in KINDS:
        raise BadInput(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    if not 0 <= product < len(FINISHES):
        raise BadInput(f"product must be 0 to {len(FINISHES) - 1}, got {product}")
    finish, side, unit = FINISHES[product], size + 2 * MARGIN_PX, size / _UNIT_PX
    relief = _texture(rng, finish, side, unit) + blemishes(rng, side, unit)
    part: Field = (finish.level * np.maximum(1 + relief, 0.05))[:, :, None] * np.asarray(finish.tint, np.float32)
    if kind != "good":
        change = DEFECTS[kind](rng, side, unit) * np.float32(contrast)
        change += 1
        part *= np.maximum(change, 0.04, out=change)
    return part


def photograph(rng: np.random.Generator, part: Field, *, light: float = 1.0, camera: int = 0) -> Image:
    """One photograph of a part from `make_part`: (size, size, 3) uint8 RGB, shifted, unevenly lit and with noise.

    Args:
        light: level of the lamp, 1 is normal.
        camera: which camera; each has its own direction of light, gain and noise.
    """
    size = len(part) - 2 * MARGIN_PX
    top, left = rng.integers(0, 2 * MARGIN_PX + 1, 2)
    view = part[top : top + size, left : left + size]
    angle = 2.4 * camera + rng.normal(0, 0.25)
    slope = 0.10 + 0.05 * rng.random()
    down, right = (2 / size * line - 1 for line in grid(size))
    lamp = (1 + slope * math.cos(angle) * right - 0.05 * right**2) + (slope * math.sin(angle) * down - 0.05 * down**2)
    lamp *= 255 * light * (1 - 0.06 * (camera % 3)) * (1 + 0.03 * rng.standard_normal())
    noise = rng.standard_normal((size, size), np.float32) * (2.0 + 0.6 * (camera % 2))
    levels = view * lamp[:, :, None]
    levels += noise[:, :, None]
    return _bytes(levels)


def lens_dirt(rng: np.random.Generator, size: int = _UNIT_PX) -> Field:
    """The dirt of one lens: (size, size) float32 in [0, 1], blurred blobs that stay where they are in every frame."""
    rows, columns = grid(size)
    clear = np.ones((size, size), np.float32)
    for _ in range(int(rng.integers(6, 11))):
        y, x = rng.random(2) * size
        radius = size * rng.uniform(0.04, 0.17)
        distance = ((rows - y) ** 2 + (columns - x) ** 2) / radius**2
        clear *= 1 - rng.uniform(0.5, 0.95) * np.exp(-(distance**1.5)).astype(np.float32)
    return np.asarray(1 - clear, np.float32)


def soil(image: Image, dirt: Field, severity: float) -> Image:
    """The same frame through a dirty lens: (h, w, 3) uint8 RGB; severity 0 leaves it as it is, 1 nearly blinds.

    A haze lies over the whole frame and lowers its contrast, the blobs of `dirt` (h, w) blur and cover more of it.
    """
    if severity <= 0:
        return image
    scene = image.astype(np.float32)
    reach = max(3, round(len(image) * 0.05) | 1)
    soft = _box(_box(scene, reach, 0), reach, 1)
    smear = np.minimum(severity * (0.30 + 0.60 * dirt), 1)[:, :, None]
    veil = severity * (0.25 + 0.40 * dirt)[:, :, None]
    haze = np.asarray((148, 143, 132), np.float32) * np.float32(0.35 + 0.65 * scene.mean() / 140)
    soft -= scene
    soft *= smear
    scene += soft
    scene *= 1 - veil
    scene += haze * veil
    return _bytes(scene)


def _texture(rng: np.random.Generator, finish: Finish, side: int, unit: float) -> Field:
    relief = finish.cloud * cloud(rng, side, 6)
    relief += finish.grain * rng.standard_normal((side, side), np.float32)
    if finish.mark_px:
        relief += finish.brush * _brushing(rng, side, round(finish.mark_px * unit))
    if finish.groove:
        relief += _milling(rng, finish, side, unit)
    return relief


def _brushing(rng: np.random.Generator, side: int, mark_px: int) -> Field:
    """Horizontal marks of two lengths, unit variance."""
    noise = rng.standard_normal((side, side + mark_px), np.float32)
    total = np.cumsum(noise, axis=1)
    short_px = max(2, mark_px // 5)
    long_marks = (total[:, mark_px:] - total[:, :-mark_px]) * (0.8 / math.sqrt(mark_px))
    return long_marks + (total[:, short_px : short_px + side] - total[:, :side]) * (0.6 / math.sqrt(short_px))


def _milling(rng: np.random.Generator, finish: Finish, side: int, unit: float) -> Field:
    """Arcs of a face mill: cusps at the feed's pitch and fine tool marks, all concentric far outside the image."""
    rows, columns = grid(side)
    y, x = side * rng.uniform(-0.2, 1.2), side * rng.uniform(-1.4, -0.9)
    down, right = rows - y, columns - x
    radius = np.sqrt(down**2 + right**2)
    turn = radius / (finish.pitch_px * unit) + rng.random()
    flank = turn - np.floor(turn)
    groove = 1.6 * flank**4 - 0.5 * (1 - flank) ** 3 - 0.2
    marks = rng.standard_normal(int(radius.max() / (1.1 * unit)) + 2, np.float32)
    tool = marks[(radius / (1.1 * unit)).astype(np.intp)]
    sheen = 0.06 * np.sin(5 * down / right + rng.uniform(0, 6))
    return np.asarray((1 + 2 * sheen) * (finish.groove * groove + finish.brush * tool) + sheen, np.float32)


def _bytes(levels: NDArray[np.floating]) -> Image:
    """Rounded and clipped to 0 to 255, in place."""
    np.rint(levels, out=levels)
    return np.clip(levels, 0, 255, out=levels).astype(np.uint8)


def _box(field: Field, width: int, axis: int) -> Field:
    """Moving mean of odd `width` along `axis` of (h, w, 3), edges repeated."""
    pad = [(0, 0)] * field.ndim
    pad[axis] = (width // 2 + 1, width // 2)
    total = np.moveaxis(np.cumsum(np.pad(field, pad, mode="edge"), axis=axis, dtype=np.float32), axis, 0)
    return np.moveaxis((total[width:] - total[:-width]) / np.float32(width), 0, axis)
