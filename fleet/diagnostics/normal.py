"""What the textbook tests compare with: normal cell shares of devices, and how many frames are one independent one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from device_agent.contract.histogram import BINS, EDGES, dense_cells
from device_agent.contract.manifest import Baseline
from device_agent.detector.evalue import phi_of_pairs
from device_agent.detector.normal import Learning
from device_agent.detector.reference import estimate_prevalence, weighted_cells

Floats = NDArray[np.float64]
Integers = NDArray[np.integer]
Rows = NDArray[np.intp]
CENTRES: Floats = np.concatenate([EDGES[:1] - 0.25, (EDGES[:-1] + EDGES[1:]) / 2, EDGES[-1:] + 0.25])
CONFIDENCE: Floats = 1 / (1 + np.exp(-CENTRES))
"""Top-1 probability (24,) in the middle of each bin."""


@dataclass(frozen=True)
class Normal:
    """One row a device. shares: (devices, classes * 24) cell shares, > 0, each row adds up to 1. independent:
    (devices,) independent frames that they were seen in. phi: (devices,) frames that make one independent frame, >= 1,
    nan where it has to be learnt from same-cell pairs."""

    shares: Floats
    independent: Floats
    phi: Floats

    def __len__(self) -> int:
        return len(self.shares)

    def take(self, rows: Rows) -> Normal:
        """The rows asked for."""
        return Normal(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def joined(self, other: Normal) -> Normal:
        """These rows, then those of `other`."""
        return Normal(**{f.name: np.concatenate([getattr(self, f.name), getattr(other, f.name)]) for f in fields(self)})

    @property
    def confidence(self) -> tuple[Floats, Floats]:
        """Mean and standard deviation (devices,) of the confidence of a frame."""
        by_bin = self.shares.reshape(len(self), -1, BINS).sum(axis=1)
        mean = by_bin @ CONFIDENCE
        return mean, np.sqrt(np.maximum(by_bin @ CONFIDENCE**2 - mean**2, 1e-12))


def normal_of_baseline(baseline: Baseline, prevalence: Sequence[float] | None = None) -> Normal:
    """One row from a bundle's validation counts, weighted to the line's prevalence.

    Args:
        baseline: counts [true class, predicted class, bin].
        prevalence: overrides the baseline's own; with neither the validation set's shares are used.

    Raises:
        BadInput: a baseline without counts, or a prevalence that does not fit.
    """
    stated = None if prevalence is None else list(prevalence)
    shares = weighted_cells(baseline, stated).ravel()
    totals = baseline.dense().sum(axis=(1, 2)).astype(np.float64)
    shown = stated or baseline.prevalence
    weights = np.array(shown, np.float64) if shown else totals / totals.sum()
    effective = 1 / (weights**2 / np.maximum(totals, 1)).sum()
    return _normal(shares[None], np.array([effective]), np.array([np.nan]))


def normal_of_model(baseline: Baseline, learning: Learning | None) -> Normal:
    """One row from a model's baseline, at the prevalence that it states, or else at the one that was learnt, or else at
    that of the validation set.

    Args:
        baseline: of the model.
        learning: of a model that states no prevalence.

    Raises:
        BadInput: a baseline without counts.
    """
    if baseline.prevalence is not None or learning is None or not learning.done:
        return normal_of_baseline(baseline)
    day = dense_cells(learning.cells, baseline.classes)
    return normal_of_baseline(baseline, estimate_prevalence(baseline, day))


def normal_of_history(counts: Integers, same: Integers) -> Normal:
    """A row for each device from its own healthy past.

    Args:
        counts: (devices, windows, cells) frames.
        same: (devices, windows) same-cell pairs.

    Raises:
        BadInput: a device without a single frame.
    """
    frames = counts.sum(axis=2)
    seen = frames.sum(axis=1).astype(np.float64)
    if not len(seen) or seen.min() < 1:
        raise BadInput("diagnostics: a device without frames has no history to learn from")
    shares = counts.sum(axis=1) / seen[:, None]
    pairs = np.maximum(frames - 1, 0).sum(axis=1).astype(np.float64)
    phi = phi_of_pairs(same.sum(axis=1).astype(np.float64), pairs, (shares**2).sum(axis=1))
    return _normal(shares, seen / phi, phi)


def _normal(shares: Floats, independent: Floats, phi: Floats) -> Normal:
    """No share is 0: one pseudo-frame is spread over all cells."""
    weight = independent[:, None]
    return Normal((shares * weight + 1 / shares.shape[1]) / (weight + 1), independent, phi)


class Dispersion:
    """Frames that make one independent frame, of each device: known, or learnt from its same-cell pairs so far."""

    def __init__(self, normal: Normal) -> None:
        self._known, self._agree = normal.phi.copy(), (normal.shares**2).sum(axis=1)
        self._pairs, self._same = np.zeros(len(normal)), np.zeros(len(normal))

    def grow(self, normal: Normal) -> None:
        """Add rows at the end."""
        more = Dispersion(normal)
        for name in vars(self):
            setattr(self, name, np.concatenate([getattr(self, name), getattr(more, name)]))

    def update(self, rows: Rows, frames: Integers, same: Integers) -> Floats:
        """phi (n,) after these windows."""
        self._pairs[rows] += np.maximum(frames - 1, 0)
        self._same[rows] += same
        known = self._known[rows]
        learnt = phi_of_pairs(self._same[rows], self._pairs[rows], self._agree[rows])
        return np.asarray(np.where(np.isnan(known), learnt, known))

    def state(self, row: int) -> Floats:
        """What was learnt of a device, (2,)."""
        return np.array([self._pairs[row], self._same[row]])

    def restore(self, row: int, learnt: Floats) -> None:
        """Take up what `state` gave."""
        self._pairs[row], self._same[row] = learnt
