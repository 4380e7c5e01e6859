"""What a metal surface can carry: four kinds of defect, and the streaks and specks that good parts have as well.

Each function returns a relative change of the reflectance, to be added to 1 and multiplied.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]

_STAINS = ((0.65, 0.95, 1.4), (0.75, 0.95, 1.2), (1.25, 1.0, 0.75), (1.0, 1.0, 1.0))  # absorbed red, green, blue


def blemishes(rng: np.random.Generator, side: int, unit: float) -> Field:
    """What good parts have as well: a streak along the brushing now and then, specks of dust."""
    relief = np.zeros((side, side), np.float32)
    if rng.random() < 0.35:
        length = side * rng.uniform(0.2, 0.7)
        y, x = side * rng.random(), (side - length) * rng.random()
        path = np.column_stack([np.full(2, y) + rng.normal(0, 0.6, 2), (x, x + length)])
        relief += _sign(rng) * rng.uniform(0.04, 0.13) * _stroke(path, side, 0.6 * unit)
    if rng.random() < 0.35:
        rows, columns = rng.integers(1, side - 1, (2, int(rng.integers(1, 5))))
        depth = rng.uniform(0.05, 0.22)
        relief[rows, columns] -= depth
        relief[rows, columns + 1] -= depth * rng.random()
    return relief


def _scratch(rng: np.random.Generator, side: int, unit: float) -> Field:
    """A long, slightly bent line, dark with a bright shoulder or the reverse, crossing the brushing."""
    length = side * rng.uniform(0.30, 0.85)
    angle = _sign(rng) * rng.uniform(0.16, 1.5)
    along = np.linspace(-0.5, 0.5, 9)
    bend = rng.normal(0, 0.09) * (along**2 - 0.08) + rng.normal(0, 0.02) * along
    middle = side * rng.uniform(0.25, 0.75, 2)
    rows = middle[0] + length * (np.sin(angle) * along + np.cos(angle) * bend)
    columns = middle[1] + length * (np.cos(angle) * along - np.sin(angle) * bend)
    path = np.column_stack([rows, columns])
    line = _stroke(path, side, rng.uniform(0.5, 0.95) * unit)
    shoulder = _stroke(path + np.array([1.4 * unit, 0]), side, 0.8 * unit)
    depth = _contrast(rng, 0.24, 0.80) * _sign(rng, 0.6)
    fade = 1 + 0.5 * cloud(rng, side, 7)
    return np.asarray((depth * (line - 0.45 * shoulder) * np.clip(fade, 0.15, 1.6))[:, :, None], np.float32)


def _pit(rng: np.random.Generator, side: int, unit: float) -> Field:
    """One to six round holes: dark floor, bright rim on the side that faces the lamp."""
    change = np.zeros((side, side), np.float32)
    depth = _contrast(rng, 0.25, 0.85)
    centre = side * rng.uniform(0.2, 0.8, 2)
    for _ in range(int(rng.integers(1, 7))):
        radius = rng.uniform(1.3, 4.2) * unit
        y, x = np.clip(centre + rng.normal(0, 0.14 * side, 2), 6 * unit, side - 6 * unit)
        stretch = rng.uniform(0.75, 1.3)
        top, left = max(0, int(y - 3 * radius)), max(0, int(x - 3 * radius))
        hole = change[top : int(y + 3 * radius) + 1, left : int(x + 3 * radius) + 1]
        rows, columns = np.ogrid[top : top + hole.shape[0], left : left + hole.shape[1]]
        down, right = (rows - y) / (radius * stretch), (columns - x) * stretch / radius
        distance = down**2 + right**2
        floor = np.exp(-(distance**2))
        rim = np.exp(-8 * (np.sqrt(distance) - 1.15) ** 2) * np.clip((down + right) * 0.7, 0, 1)
        hole += depth * (0.75 * rim - floor)
    return np.asarray(change[:, :, None], np.float32)


def _stain(rng: np.random.Generator, side: int, unit: float) -> Field:
    """A blotch with an irregular outline and a darker tide mark, brown or bluish."""
    rows, columns = grid(side)
    y, x = side * rng.uniform(0.2, 0.8, 2)
    radius = side * rng.uniform(0.10, 0.30)
    stretch = rng.uniform(0.7, 1.4)
    distance = np.sqrt(((rows - y) * stretch) ** 2 + ((columns - x) / stretch) ** 2) / radius
    outline = 1 - distance + 0.28 * cloud(rng, side, 8)
    soft = rng.uniform(0.06, 0.22)
    body = 1 / (1 + np.exp(-np.clip(outline / soft, -30, 30)))
    tide = np.exp(-((outline / (1.3 * soft)) ** 2))
    amount = (0.65 + 0.2 * cloud(rng, side, 5)) * body + rng.uniform(0.1, 0.7) * tide
    absorbs = _STAINS[int(rng.integers(len(_STAINS)))]
    depth = _contrast(rng, 0.14, 0.42)
    return np.asarray(-depth * amount[:, :, None] * np.asarray(absorbs, np.float32), np.float32)


def _crack(rng: np.random.Generator, side: int, unit: float) -> Field:
    """A dark jagged line of uneven strength that may fork."""
    steps = int(rng.integers(7, 16))
    step_px = side * rng.uniform(0.035, 0.06)
    heading = rng.uniform(-np.pi, np.pi)
    path = _walk(rng, np.zeros(2), heading, steps, step_px)
    path += side * rng.uniform(0.25, 0.75, 2) - path.mean(axis=0)
    line = _stroke(path, side, rng.uniform(0.45, 0.8) * unit)
    if rng.random() < 0.5:
        at = int(rng.integers(2, steps - 2))
        fork = _walk(rng, path[at], heading + _sign(rng) * rng.uniform(0.6, 1.2), steps // 2, step_px)
        line = np.maximum(line, 0.8 * _stroke(fork, side, 0.5 * unit))
    strength = np.clip(0.9 + 0.45 * cloud(rng, side, 9), 0.1, 1.5)
    return np.asarray((-_contrast(rng, 0.28, 0.85) * line * strength)[:, :, None], np.float32)


DEFECTS: dict[str, Callable[[np.random.Generator, int, float], Field]] = {
    "scratch": _scratch,
    "pit": _pit,
    "stain": _stain,
    "crack": _crack,
}


def _contrast(rng: np.random.Generator, low: float, high: float) -> float:
    """Log-uniform, so that faint defects are as frequent as strong ones."""
    return float(low * (high / low) ** rng.random())


def _sign(rng: np.random.Generator, plus: float = 0.5) -> int:
    return 1 if rng.random() < plus else -1


def grid(side: int) -> tuple[Field, Field]:
    line = np.arange(side, dtype=np.float32)
    return line[:, None], line[None, :]


@functools.lru_cache(maxsize=16)
def _knot_weights(side: int, knots: int) -> Field:
    where = np.linspace(0, knots - 1, side)
    share = np.exp(-((where[:, None] - np.arange(knots)) ** 2) / (2 * 0.55**2))
    return np.asarray(share / np.sqrt((share**2).sum(axis=1, keepdims=True)), np.float32)


def cloud(rng: np.random.Generator, side: int, knots: int) -> Field:
    """Smooth noise (side, side), unit variance, with `knots` random values a side."""
    smooth = _knot_weights(side, knots)
    return np.asarray(smooth @ rng.standard_normal((knots, knots), np.float32) @ smooth.T, np.float32)


def _walk(
    rng: np.random.Generator, start: NDArray[np.float64], heading: float, steps: int, step_px: float
) -> NDArray[np.float64]:
    """A jagged path of (row, column): (steps + 1, 2) float64."""
    headings = heading + rng.normal(0, 0.55, steps) + np.cumsum(rng.normal(0, 0.12, steps))
    stride = step_px * rng.uniform(0.5, 1.5, steps)
    moves = np.column_stack([np.sin(headings) * stride, np.cos(headings) * stride])
    return start + np.vstack([np.zeros((1, 2)), np.cumsum(moves, axis=0)])


def _stroke(path: NDArray[np.floating], side: int, sigma_px: float) -> Field:
    """A line through the (row, column) points of `path` with a Gaussian profile: (side, side) in about [0, 1]."""
    reach = math.ceil(2.5 * sigma_px)
    length = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(path, axis=0).T))])
    at = np.arange(0, length[-1], 0.5)
    points = np.column_stack([np.interp(at, length, path[:, 0]), np.interp(at, length, path[:, 1])])
    points = points[((points > 0) & (points < side - 1)).all(axis=1)]
    cell = np.rint(points).astype(np.intp)
    taps = np.arange(-reach, reach + 1)
    squares = ((cell - points)[:, :, None] + taps) ** 2
    ink = np.exp((squares[:, 0, :, None] + squares[:, 1, None, :]) * (-0.5 / sigma_px**2))
    ink *= 0.5 / (math.sqrt(2 * math.pi) * sigma_px)
    wide = side + 2 * reach
    where = (cell[:, 0, None, None] + taps[:, None] + reach) * wide + cell[:, 1, None, None] + taps + reach
    canvas = np.bincount(where.ravel(), ink.ravel(), wide * wide).reshape(wide, wide)
    return np.asarray(np.minimum(canvas[reach : reach + side, reach : reach + side], 1.1), np.float32)
