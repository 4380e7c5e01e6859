"""Temperature: one number by which the logits are divided, so that a confidence is the share of answers that hold."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from toolkit.evaluation.metrics import calibration_error, softmax

COLDEST, HOTTEST = 0.05, 20.0
RELIABILITY_BINS = 15


class ReliabilityBin(msgspec.Struct, frozen=True):
    """Answers with a top-1 probability in one of 15 equal-width bins: how many, their mean probability, and the share
    that was right. Both are in [0, 1]."""

    images: int
    confidence: float
    accuracy: float


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """The temperature, 0.05 to 20, with the least negative log-likelihood (Guo et al. 2017), to four decimals.

    The true class gets 1 - 1/(n + 2) of each target and the others share the rest (Platt 1999): without it, a model
    that answers every validation image rightly would claim to be certain of everything. The loss is convex in
    1/temperature, so its slope is bisected.

    Args:
        logits: (n, classes), finite.
        labels: (n,) true classes.

    >>> rng = np.random.default_rng(0)
    >>> sharp = np.repeat([[4.0, 0.0]], 1000, axis=0)
    >>> fit_temperature(sharp, (rng.random(1000) > 0.75).astype(int)) > 3
    True

    Raises:
        BadInput: no images.
    """
    if not len(labels):
        raise BadInput("no images to fit a temperature on")
    scores = np.asarray(logits, np.float64)
    count, classes = scores.shape
    missed = 1 / (count + 2)
    target = np.full(scores.shape, missed / (classes - 1))
    target[np.arange(count), labels] = 1 - missed
    wanted = float((target * scores).sum())

    def slope(sharpness: float) -> float:
        return float((softmax(scores * sharpness) * scores).sum()) - wanted

    low, high = 1 / HOTTEST, 1 / COLDEST
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return round(1 / ((low + high) / 2), 4)


def calibrated_elsewhere(
    logits: NDArray[np.floating], labels: NDArray[np.integer], groups: NDArray[np.generic], *, folds: int = 5
) -> NDArray[np.float64]:
    """Probabilities (n, classes), each with a temperature that was fitted on the images of other groups.

    The calibration error of a temperature on the very images that it was fitted on flatters. With a single group there
    is nothing else to fit on, and it is used.

    Args:
        groups: (n,) names; images of one group stay in one fold.
    """
    _, group = np.unique(np.asarray(groups).astype(str), return_inverse=True)
    fold = group % min(folds, int(group.max()) + 1)
    out = np.empty(logits.shape, np.float64)
    for one in np.unique(fold):
        held = fold == one
        fit_on = ~held if (~held).any() else held
        out[held] = softmax(logits[held] / fit_temperature(logits[fit_on], labels[fit_on]))
    return out


def reliability(probabilities: NDArray[np.floating], labels: NDArray[np.integer]) -> list[ReliabilityBin]:
    """The reliability curve: bins without an image are left out.

    >>> reliability(np.array([[0.75, 0.25]] * 4), np.array([0, 0, 0, 1]))
    [ReliabilityBin(images=4, confidence=0.75, accuracy=0.75)]
    """
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    bin_ = np.minimum((confidence * RELIABILITY_BINS).astype(int), RELIABILITY_BINS - 1)
    return [
        ReliabilityBin(int(here.sum()), float(confidence[here].mean()), float(right[here].mean()))
        for here in (bin_ == one for one in np.unique(bin_))
    ]


def error(probabilities: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Expected calibration error over 15 equal-width bins, in [0, 1]."""
    return calibration_error(probabilities, labels, bins=RELIABILITY_BINS)
