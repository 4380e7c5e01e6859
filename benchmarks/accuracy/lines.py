"""Lines whose truth is known: the mixture of `fleet.worlds`, with the true class of every part beside its cell.

Every part is a run of frames. In the components of a calibrated classifier a part is a defect with the probability
that the model says. A fault changes what the model sees, and for "blind" what it says: defects that it no longer sees
stay defects. Strange parts ("ood5") have the line's usual share of defects, whatever the model says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from device_agent.contract.histogram import BINS, EDGES
from device_agent.contract.manifest import Baseline, Label
from fleet.worlds import AMBIGUOUS, BETAS, DEFECT, GOOD_A, GOOD_B, STRANGE

LABELS = [Label("good", "good"), Label("defect", "defect")]
FAULTS = ("none", "defects3", "blind", "ood5")
PREVALENCE = 0.0117
"""Of the average line: what its owner states."""


@dataclass(frozen=True)
class Line:
    """One device: its factor on the rates of ambiguous parts and defects, and the share of the second bulk."""

    rate: float
    share_b: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Line:
        """As devices differ in drift.md's world."""
        return cls(float(rng.lognormal(0, 0.3)), float(rng.uniform(0.2, 0.8)))


@dataclass(frozen=True)
class Watched:
    """What a line showed: counts [true, predicted, bin] of frames, pairs of consecutive frames in one cell, and the
    parts as (parts, 3): true class, cell, frames."""

    counts: np.ndarray
    same: int
    parts: np.ndarray

    @property
    def seen(self) -> np.ndarray:
        """What a report tells: counts [predicted, bin]."""
        return self.counts.sum(axis=0)

    def figures(self) -> dict[tuple[str, str], float]:
        """The truth over these frames."""
        table = self.counts.sum(axis=2)
        return {
            ("accuracy", ""): (table[0, 0] + table[1, 1]) / table.sum(),
            ("recall", "defect"): table[1, 1] / max(table[1].sum(), 1),
            ("precision", "defect"): table[1, 1] / max(table[:, 1].sum(), 1),
        }


def watch(
    line: Line, fault: str, hours: int, rng: np.random.Generator, *, frames: int = 600, dwell_s: float = 2.0
) -> Watched:
    """Some hours of a line, with a fault from the start. Rates move from hour to hour by 15 % and with the day."""
    fresh = 1 - math.exp(-60 / frames / dwell_s)
    parts = rng.binomial(frames * 60 * hours, fresh)
    hour = np.sort(rng.integers(0, hours, parts))
    wander = np.exp(0.15 * np.sin(2 * np.pi * np.arange(hours) / 24) + rng.normal(0, 0.11, hours))
    ambiguous, defect = 0.010 * line.rate * wander[hour], 0.005 * line.rate * wander[hour]
    lost_ambiguous = 0.5 * ambiguous if fault == "blind" else np.zeros(parts)
    lost_defect = 0.9 * defect if fault == "blind" else np.zeros(parts)
    if fault == "defects3":
        defect = 3 * defect
    strange = np.full(parts, 0.05 if fault == "ood5" else 0.0)
    bulk = 1 - ambiguous - defect
    shares = np.stack([bulk * (1 - line.share_b), bulk * line.share_b, ambiguous, defect]) * (1 - strange)
    ladder = np.cumsum(np.concatenate([shares, strange[None]]), axis=0)
    component = (rng.random(parts) * ladder[-1] > ladder).sum(axis=0)
    component = np.array([GOOD_A, GOOD_B, AMBIGUOUS, DEFECT, STRANGE])[component]
    betas = np.array(BETAS)
    chance = rng.beta(betas[component, 0], betas[component, 1])
    true = (rng.random(parts) < np.where(component == STRANGE, PREVALENCE, chance)).astype(int)
    missed = (component == AMBIGUOUS) & (rng.random(parts) < lost_ambiguous / ambiguous)
    missed |= (component == DEFECT) & (rng.random(parts) < lost_defect / defect)
    bulk_of = np.where(rng.random(parts) < line.share_b, GOOD_B, GOOD_A)
    chance = np.where(missed, rng.beta(betas[bulk_of, 0], betas[bulk_of, 1]), chance)
    return _count(true, chance, rng.geometric(fresh, parts), frames * 60 * hours)


def validate(images: int, rng: np.random.Generator, *, share: float = 0.5) -> Baseline:
    """The baseline of a bundle from so many validation images, `share` of them defects, of lines as they differ."""
    counts = np.zeros((2, 2 * BINS), np.int64)
    wanted = [images - round(images * share), round(images * share)]
    while min(np.subtract(counts.sum(axis=1), wanted)) < 0:
        found = watch(Line.draw(rng), "none", 2, rng, dwell_s=0.02)
        for true, cell, _ in found.parts[rng.permutation(len(found.parts))]:
            if counts[true].sum() < wanted[true]:
                counts[true, cell] += 1
    return Baseline.of(counts.reshape(2, 2, BINS), [1 - PREVALENCE, PREVALENCE])


def _count(true: np.ndarray, chance: np.ndarray, length: np.ndarray, frames: int) -> Watched:
    odds = np.log(np.maximum(chance, 1e-300)) - np.log1p(-np.minimum(chance, 1 - 1e-16))
    cell = np.where(odds >= 0, BINS, 0) + np.searchsorted(EDGES, np.abs(odds), side="right")
    length = np.maximum(np.minimum(np.cumsum(length), frames) - np.r_[0, np.minimum(np.cumsum(length), frames)[:-1]], 0)
    counts = np.bincount(true * 2 * BINS + cell, length, 4 * BINS).reshape(2, 2, BINS).astype(np.int64)
    kept = length > 0
    changes = int((np.diff(cell[kept]) != 0).sum())
    return Watched(counts, int(length.sum()) - 1 - changes, np.column_stack([true, cell, length])[kept])
