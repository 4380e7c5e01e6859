"""Counts of a camera whose frames repeat: runs of geometric length, drawn run by run and not frame by frame."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fleet.worlds.classifier import Floats

RUNS_AT_ONCE = 50_000
"""What fits in a processor's cache."""


class AliasTables:
    """Cells of each kind of part, drawn in constant time (Walker 1977).

    Args:
        shares: (kinds, cells), >= 0, each row adds up to 1.
    """

    def __init__(self, shares: Floats) -> None:
        self.kinds, self.cells = shares.shape
        built = [_alias(row) for row in shares]
        self._keep = np.concatenate([keep for keep, _ in built])
        self._other = np.concatenate([other for _, other in built])

    def draw(self, kind: NDArray[np.integer], rng: np.random.Generator) -> NDArray[np.int32]:
        """A cell for each entry of `kind`."""
        spot = rng.random(len(kind)) * self.cells
        column = spot.astype(np.int32)
        slot = kind * np.int32(self.cells) + column
        return np.asarray(np.where(spot - column < self._keep[slot], column, self._other[slot]), np.int32)


def _alias(shares: Floats) -> tuple[Floats, NDArray[np.int32]]:
    size = len(shares)
    keep, other = shares / shares.sum() * size, np.arange(size, dtype=np.int32)
    small = [i for i in range(size) if keep[i] < 1]
    large = [i for i in range(size) if keep[i] >= 1]
    while small and large:
        low, high = small.pop(), large[-1]
        other[low] = high
        keep[high] -= 1 - keep[low]
        if keep[high] < 1:
            small.append(large.pop())
    keep[[*small, *large]] = 1.0
    return keep, other


class Camera:
    """One camera: with probability `rho` a frame falls in the cell of the frame before it, else it is drawn anew.

    The length of a run is geometric; ceil(E / -ln rho) with E exponential is that law exactly. It is without memory, so
    that blocks of minutes join without a seam: the run that is cut goes on with probability `rho`.

    Args:
        tables: cells of each kind.
        frames: a minute, 2 to 65,535.
        rho: in [0, 1).
        rng: the only source of chance.
    """

    def __init__(self, tables: AliasTables, frames: int, rho: float, rng: np.random.Generator) -> None:
        self._tables, self._frames, self._rng, self._rho = tables, frames, rng, rho
        self._last = -1

    def minutes(self, weights: Floats) -> tuple[NDArray[np.uint16], NDArray[np.int32]]:
        """Counts (minutes, cells) and same-cell pairs (minutes,) of the next minutes.

        Args:
            weights: (minutes, kinds) shares of the kinds, each row adds up to 1.
        """
        block = max(1, int(RUNS_AT_ONCE / self._frames / (1 - self._rho)))
        parts = [self._block(weights[at : at + block]) for at in range(0, len(weights), block)]
        return np.concatenate([counts for counts, _ in parts]), np.concatenate([same for _, same in parts])

    def _block(self, weights: Floats) -> tuple[NDArray[np.uint16], NDArray[np.int32]]:
        frames, cells, minutes = self._frames, self._tables.cells, len(weights)
        total = minutes * frames
        starts = self._starts(total)
        minute = (starts // frames).astype(np.int32)
        cell = self._tables.draw(self._kinds(weights, minute), self._rng)
        if self._last >= 0 and self._rng.random() < self._rho:
            cell[0] = self._last
        self._last = int(cell[-1])
        edges = np.arange(1, minutes) * frames
        spot = np.searchsorted(starts, edges)
        begin, inside = np.insert(starts, spot, edges), np.insert(cell, spot, cell[spot - 1])
        length = np.diff(begin, append=total)
        flat = np.bincount(begin // frames * cells + inside, length, minutes * cells)
        changed = minute[1:][(cell[1:] != cell[:-1]) & (starts[1:] != minute[1:] * np.int64(frames))]
        same = frames - 1 - np.bincount(changed, minlength=minutes)
        return flat.reshape(minutes, cells).astype(np.uint16), same.astype(np.int32)

    def _starts(self, total: int) -> NDArray[np.int64]:
        """First frames of the runs, from 0 to below `total`."""
        if self._rho <= 0:
            return np.arange(total)
        pace, expected = -math.log(self._rho), total * (1 - self._rho)
        ends = np.zeros(1, np.int64)
        while ends[-1] < total:
            more = int((total - ends[-1]) / total * expected + 4 * math.sqrt(expected) + 20)
            lengths = np.maximum(np.ceil(self._rng.standard_exponential(more) / pace), 1).astype(np.int64)
            ends = np.concatenate([ends, ends[-1] + np.cumsum(lengths)])
        return ends[: np.searchsorted(ends, total)]

    def _kinds(self, weights: Floats, minute: NDArray[np.int32]) -> NDArray[np.int32]:
        """Kind of each run, with the shares of the minute in which it begins."""
        ladder = np.cumsum(weights, axis=1)
        ladder = ladder[:, :-1] / ladder[:, -1:]
        drawn, kind = self._rng.random(len(minute)), np.zeros(len(minute), np.int32)
        for step in ladder.T:
            kind += drawn >= step[minute]
        return kind
