"""Textbook tests of a block of reports against what is normal: KL, PSI, JS, KS and chi-square, on independent counts.

Correlated frames are no more evidence than the independent frames in them, so counts are divided by the over-dispersion
phi. A distance alarms above the limit that the field uses, or above what chance gives at the test's level, whichever is
more; chance is the chi-square law that the distance has near 0. KS and chi-square have their p-values only. Cells in
which few frames are expected are taken together.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from device_agent.contract.histogram import BINS
from fleet.diagnostics.contract import BLOCK, LEVEL, Finding
from fleet.diagnostics.normal import Dispersion, Floats, Integers, Normal, Rows

Measure = Callable[[Floats, Floats, Floats, Floats, float], tuple[Floats, Floats]]
"""(observed shares, normal shares, independent frames of the block, of the normal, level) -> statistic, threshold."""
FEW, TINY = 5.0, 1e-9
"""Independent frames under which an expected cell is taken together with others; what stands for no share."""


def chi_square_limit(freedom: Floats, level: float) -> Floats:
    """Value that a chi-square variate exceeds with probability `level` (Wilson and Hilferty 1931; 3 % off at most).

    >>> chi_square_limit(np.array([1.0, 10.0]), 0.05).round(2).tolist()
    [3.75, 18.29]
    """
    z, part = NormalDist().inv_cdf(1 - level), 2 / (9 * np.maximum(freedom, 1))
    return np.asarray(np.maximum(freedom, 1) * (1 - part + z * np.sqrt(part)) ** 3)


def kl(seen: Floats, normal: Floats, n: Floats, m: Floats, level: float) -> tuple[Floats, Floats]:
    """Kullback-Leibler divergence in nats; the field's limit is 0.1. 2 n KL is chi-square near 0 (Wilks 1938)."""
    seen, normal, chance = _grouped(seen, normal, n, m, level)
    return (seen * np.log(seen / normal)).sum(axis=1), np.maximum(0.1, chance / 2)


def psi(seen: Floats, normal: Floats, n: Floats, m: Floats, level: float) -> tuple[Floats, Floats]:
    """Population stability index; the field's limit for "some change" is 0.1 (Yurdakul 2018 for its law)."""
    seen, normal, chance = _grouped(seen, normal, n, m, level)
    return ((seen - normal) * np.log(seen / normal)).sum(axis=1), np.maximum(0.1, chance)


def js(seen: Floats, normal: Floats, n: Floats, m: Floats, level: float) -> tuple[Floats, Floats]:
    """Jensen-Shannon distance, the root of the divergence in bits, 0 to 1; the field's limit is 0.1."""
    seen, normal, chance = _grouped(seen, normal, n, m, level)
    middle = (seen + normal) / 2
    nats = ((seen * np.log(seen / middle)) + normal * np.log(normal / middle)).sum(axis=1) / 2
    return np.sqrt(np.maximum(nats, 0) / math.log(2)), np.maximum(0.1, np.sqrt(chance / 8 / math.log(2)))


def ks(seen: Floats, normal: Floats, n: Floats, m: Floats, level: float) -> tuple[Floats, Floats]:
    """Kolmogorov-Smirnov statistic of the confidence, whatever the class. Bins make it cautious."""
    by_bin = (seen - normal).reshape(len(seen), -1, BINS).sum(axis=1)
    limit = np.sqrt(-math.log(level / 2) / 2 / _together(n, m))
    return np.abs(np.cumsum(by_bin, axis=1)).max(axis=1), limit


def chi2(seen: Floats, normal: Floats, n: Floats, m: Floats, level: float) -> tuple[Floats, Floats]:
    """Pearson's chi-square."""
    seen, normal, chance = _grouped(seen, normal, n, m, level)
    both = _together(n, m)
    return ((seen - normal) ** 2 / normal).sum(axis=1) * both, chance * both


def _together(n: Floats, m: Floats) -> Floats:
    return np.asarray(1 / (1 / np.maximum(n, 1e-9) + 1 / np.maximum(m, 1e-9)))


def _grouped(seen: Floats, normal: Floats, n: Floats, m: Floats, level: float) -> tuple[Floats, Floats, Floats]:
    """Both shares with cells of few expected frames taken together, in a last column, and the chi-square limit an
    independent frame."""
    both = _together(n, m)
    large = normal * both[:, None] >= FEW
    grouped = [np.column_stack([np.where(large, one, 0), (one * ~large).sum(axis=1)]) + TINY for one in (seen, normal)]
    return grouped[0], grouped[1], chi_square_limit(large.sum(axis=1).astype(np.float64), level) / both


MEASURES: dict[str, Measure] = {"kl": kl, "psi": psi, "js": js, "ks": ks, "chi2": chi2}


class BlockTest:
    """One of `MEASURES` on blocks of `block` reports; what a block showed stands until the next one ends.

    Args:
        measure: name in `MEASURES`.
        normal: one row a device.
        level: chance of a false alarm a block.
        block: reports, an hour by default.

    Raises:
        BadInput: a level outside (0, 0.5], or a block of no reports.
    """

    def __init__(self, measure: str, normal: Normal, *, level: float = LEVEL, block: int = BLOCK) -> None:
        if not 0 < level <= 0.5 or block < 1:
            raise BadInput(f"drift tests: a level of {level} and blocks of {block} must be in (0, 0.5] and at least 1")
        self._measure, self._level, self._block = MEASURES[measure], level, block
        self._normal, self._dispersion = normal, Dispersion(normal)
        self._cells: NDArray[np.int64] = np.zeros(normal.shares.shape, np.int64)
        self._scalars = self._blank(len(normal))

    def _blank(self, devices: int) -> Floats:
        """Windows, independent frames, statistic, threshold."""
        out = np.zeros((devices, 4))
        out[:, 2], out[:, 3] = np.nan, np.inf
        return out

    def grow(self, normal: Normal) -> None:
        """See `DriftTest`."""
        self._normal = self._normal.joined(normal)
        self._dispersion.grow(normal)
        self._cells = np.concatenate([self._cells, np.zeros(normal.shares.shape, np.int64)])
        self._scalars = np.concatenate([self._scalars, self._blank(len(normal))])

    def reset(self, rows: Rows) -> None:
        """See `DriftTest`."""
        self._cells[rows], self._scalars[rows] = 0, self._blank(len(rows))

    def update(self, rows: Rows, cells: Integers, frames: Integers, same: Integers) -> Finding:
        """See `DriftTest`."""
        phi = self._dispersion.update(rows, frames, same)
        self._cells[rows] += cells
        self._scalars[rows, 0] += 1
        self._scalars[rows, 1] += np.asarray(frames) / phi
        ended = rows[self._scalars[rows, 0] >= self._block]
        if len(ended):
            self._close(ended)
        statistic, threshold = self._scalars[rows, 2], self._scalars[rows, 3]
        return Finding(statistic, threshold, statistic > threshold)

    def _close(self, rows: Rows) -> None:
        independent = self._scalars[rows, 1]
        total = self._cells[rows].sum(axis=1)
        shares = self._normal.shares[rows]
        seen = self._cells[rows] / np.maximum(total, 1)[:, None] * independent[:, None] + shares
        found = self._measure(
            seen / seen.sum(axis=1, keepdims=True), shares, independent, self._normal.independent[rows], self._level
        )
        known = total > 0
        self._scalars[rows, 2] = np.where(known, found[0], np.nan)
        self._scalars[rows, 3] = np.where(known, found[1], np.inf)
        self._cells[rows] = 0
        self._scalars[rows, :2] = 0

    def state(self, row: int) -> bytes:
        """See `DriftTest`."""
        parts = (self._cells[row], self._scalars[row], self._dispersion.state(row))
        return b"".join(part.tobytes() for part in parts)

    def restore(self, row: int, memory: bytes) -> None:
        """See `DriftTest`."""
        cells = self._cells.shape[1]
        if len(memory) != 8 * (cells + 6):
            raise BadInput(f"drift tests: {len(memory)} bytes of memory, this model has {8 * (cells + 6)}")
        self._cells[row] = np.frombuffer(memory, np.int64, cells)
        numbers = np.frombuffer(memory, np.float64, 6, 8 * cells)
        self._scalars[row] = numbers[:4]
        self._dispersion.restore(row, numbers[4:])
