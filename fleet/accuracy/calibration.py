"""Does a confidence still mean what it meant? Labels by band of confidence, against validation and against the word."""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.histogram import BINS
from fleet.accuracy.intervals import Floats, Interval, exact, of_draws
from fleet.accuracy.unlabelled import mean_confidence
from fleet.accuracy.validation import Coarse

DRAWS = 4999
LEAST_LABELS = 30


class Band(msgspec.Struct, frozen=True):
    """One predicted class and band of confidence: the mean confidence of its frames, how often validation says that
    these are right, and how often the labels do (exact limits)."""

    predicted: str
    log_odds: str
    weight: float
    confidence: float
    expected: float
    labels: int
    right: Interval


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """`ece` is the expected calibration error of the labelled strata, each as heavy as on the line, and `chance` what a
    perfectly calibrated model would show with so few labels. `p` is the chance of labels as far from validation as
    these if nothing changed (Monte Carlo, exact up to its draws). Measured."""

    bands: list[Band]
    labels: int
    ece: Interval
    chance: float
    p: float
    verdict: Literal["as in validation", "changed", "too few"]
    provenance: Literal["measured"] = "measured"


def calibration(
    coarse: Coarse, cells: Floats, labels: Floats, rng: np.random.Generator, *, level: float = 0.01
) -> Calibration | None:
    """Calibration of a line's answers from its labels; None without any.

    Args:
        coarse: bands of a validation.
        cells: (cells,) counts of the line.
        labels: (classes, strata), see `labelled.tally`.
        rng: for the test.
        level: chance of saying "changed" when nothing did.
    """
    told = labels.sum(axis=0)
    kept = np.flatnonzero(told > 0)
    if not len(kept):
        return None
    right = labels[coarse.predicted, np.arange(len(told))]
    weight = coarse.pool(cells) / max(cells.sum(), 1e-300)
    expected = coarse.truth_given()[coarse.predicted, np.arange(len(told))]
    said = _confidence(coarse, cells)
    bands = [_band(coarse, k, weight, said, expected, right, told) for k in kept.tolist()]
    heavy = weight[kept] / max(weight[kept].sum(), 1e-300)
    n, k = told[kept].astype(np.int64), right[kept]
    drawn = rng.beta(k + 0.5, n - k + 0.5, (DRAWS, len(kept)))
    ece = float((heavy * np.abs(said[kept] - k / n)).sum())
    fair = rng.binomial(n, said[kept], (DRAWS, len(kept))) / n
    p = _test(coarse, kept, n, k, rng)
    verdict: Literal["as in validation", "changed", "too few"] = "as in validation"
    if p < level:
        verdict = "changed"
    elif n.sum() < LEAST_LABELS:
        verdict = "too few"
    return Calibration(
        bands=bands,
        labels=int(n.sum()),
        ece=of_draws(ece, (heavy * np.abs(said[kept] - drawn)).sum(axis=1)),
        chance=float((heavy * np.abs(said[kept] - fair)).sum(axis=1).mean()),
        p=p,
        verdict=verdict,
    )


def _confidence(coarse: Coarse, cells: Floats) -> Floats:
    """Mean confidence (strata,) of the line's frames in each stratum; of one without frames, of its bins alike."""
    found = np.zeros(len(coarse.predicted))
    for stratum in range(len(found)):
        inside = coarse.stratum == stratum
        counts = np.where(inside, cells, 0) if cells[inside].sum() > 0 else inside.astype(np.float64)
        found[stratum] = mean_confidence(counts.reshape(-1, BINS))
    return found


def _band(coarse: Coarse, k: int, weight: Floats, said: Floats, expected: Floats, right: Floats, told: Floats) -> Band:
    share = exact(int(right[k]), int(told[k]))
    return Band(
        coarse.validation.names[coarse.predicted[k]],
        coarse.band(k),
        float(weight[k]),
        float(said[k]),
        float(expected[k]),
        int(told[k]),
        share,
    )


def _test(
    coarse: Coarse, kept: NDArray[np.intp], n: NDArray[np.int64], right: Floats, rng: np.random.Generator
) -> float:
    """Chance of a sum of squared distances as large as that of the labels, where each stratum's rate is drawn from what
    validation leaves possible, weighted to the line. Two-sided in each stratum."""
    counts = np.broadcast_to(coarse.smoothed(), (DRAWS, *coarse.counts.shape))
    drawn = rng.gamma(counts)
    drawn /= drawn.sum(axis=2, keepdims=True)
    joint = coarse.validation.prevalence[None, :, None] * drawn
    rate = (joint[:, coarse.predicted, np.arange(joint.shape[2])] / np.maximum(joint.sum(axis=1), 1e-300))[:, kept]
    centre = rate.mean(axis=0)
    variance = n * centre * (1 - centre) + n * n * rate.var(axis=0) + 0.25
    distance = ((rng.binomial(n, rate) - n * centre) ** 2 / variance).sum(axis=1)
    seen = ((right - n * centre) ** 2 / variance).sum()
    return float((1 + (distance >= seen).sum()) / (1 + DRAWS))
