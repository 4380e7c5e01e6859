"""Which samples are worth a label: Neyman's allocation over bands of predicted class and confidence."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from fleet.accuracy.intervals import Floats
from fleet.accuracy.validation import Coarse

Aim = Literal["recall", "accuracy"]
LEAST = 2


def uncertainty(coarse: Coarse, weight: Floats, aim: Aim) -> Floats:
    """How far one label of a stratum (strata,) moves the figure: standard deviation times the figure's slope.

    The chance of a defect in a stratum is taken from validation with one more image in every stratum, so that one where
    none was ever missed is looked at too. For recall, a stratum that passes parts moves it by recall, one that rejects
    them by 1 - recall.

    Args:
        coarse: bands of a validation.
        weight: (strata,) share of the line's frames.
        aim: the figure to be estimated.
    """
    validation = coarse.validation
    counts = coarse.counts + 1
    joint = validation.prevalence[:, None] * counts / counts.sum(axis=1, keepdims=True)
    truth = joint / joint.sum(axis=0)
    if aim == "accuracy":
        right = truth[coarse.predicted, np.arange(len(weight))]
        return np.asarray(np.sqrt(right * (1 - right)))
    defect = truth[validation.defect].sum(axis=0)
    rejected = validation.defect[coarse.predicted]
    found = weight * defect
    recall = found[rejected].sum() / max(found.sum(), 1e-300)
    return np.asarray(np.sqrt(defect * (1 - defect)) * np.where(rejected, 1 - recall, recall))


def allocate(weight: Floats, spread: Floats, available: NDArray[np.integer], budget: int) -> NDArray[np.int64]:
    """Labels (strata,) of each stratum, as weight x spread (Neyman 1934), at most what is there, at least two where
    anything is.

    >>> allocate(np.array([0.9, 0.1]), np.array([0.1, 0.5]), np.array([500, 500]), 140).tolist()
    [90, 50]
    >>> allocate(np.array([0.9, 0.1]), np.array([0.1, 0.5]), np.array([20, 500]), 140).tolist()
    [20, 120]

    Raises:
        BadInput: no budget.
    """
    if budget < 1:
        raise BadInput(f"labels: a budget of {budget} draws nothing; at least 1")
    there = np.asarray(available, np.int64)
    score = np.where(there > 0, weight * spread, 0.0)
    score = np.where(score > 0, np.maximum(score / max(score.max(), 1e-300), 1e-9), 0.0)
    there = np.where(score > 0, there, 0)
    least, total = np.minimum(there, LEAST), int(min(budget, there.sum()))
    if least.sum() >= total:
        found = np.zeros_like(there)
        found[np.argsort(-score, kind="stable")[:total]] = 1
        return _round(np.minimum(found, there).astype(np.float64), least, total)
    low, high = 0.0, float((there[score > 0] / score[score > 0]).max())
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if np.clip(middle * score, least, there).sum() < total else (low, middle)
    return _round(np.clip(low * score, least, there), there, total)


def _round(wanted: Floats, there: NDArray[np.int64], total: int) -> NDArray[np.int64]:
    """Whole numbers that add up to `total`, by largest remainders; `wanted` add up to no more, `there` to no less."""
    whole = np.minimum(np.floor(wanted + 1e-9).astype(np.int64), there)
    while whole.sum() < total:
        room = np.flatnonzero(whole < there)
        order = room[np.argsort(-(wanted - whole)[room], kind="stable")]
        whole[order[: int(total - whole.sum())]] += 1
    return whole
