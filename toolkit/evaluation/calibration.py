"""Temperature: one number by which the logits are divided, so that a confidence is the share of answers that hold."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from toolkit.evaluation.intervals import Interval, index_groups, inverted_interval
from toolkit.evaluation.metrics import BINS, Bins, calibration_error, confidence_bins, softmax

COLDEST, HOTTEST = 0.05, 20.0
STRENGTH = 10.0
DRAWS = 1000


class ReliabilityBin(msgspec.Struct, frozen=True):
    """Answers in one of 15 bins of equally many answers, by top-1 probability: how many, their mean probability, and
    the share that was right. Both are in [0, 1]."""

    images: int
    confidence: float
    accuracy: float


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.integer], *, strength: float = STRENGTH) -> float:
    """The temperature, 0.05 to 20, with the least negative log-likelihood (Guo et al. 2017), to four decimals.

    A prior holds it near 1, where a network trained on log-likelihood begins: 1/temperature is taken to be a Gamma
    variable of shape and rate 10, which is a spread of about a third either way, and gives way to a few hundred images.
    Without it a model that answers every validation image rightly would claim to be certain of everything. Softer
    targets (Platt 1999) prevent that too, but pretend errors that nobody saw: benchmarks/operating_point/temperature.py
    compares. The loss is convex in 1/temperature, so its slope is bisected.

    Args:
        logits: (n, classes), finite.
        labels: (n,) true classes.
        strength: shape and rate of the prior, >= 0.

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
    wanted = float(scores[np.arange(len(labels)), labels].sum())

    def slope(sharpness: float) -> float:
        likelihood = float((softmax(scores * sharpness) * scores).sum()) - wanted
        return likelihood + strength * (1 - 1 / sharpness)

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
    """The reliability curve over 15 equal-mass bins: bins without an image are left out.

    >>> reliability(np.array([[0.75, 0.25]] * 2), np.array([0, 1]))[0]
    ReliabilityBin(images=1, confidence=0.75, accuracy=0.5)
    """
    confidence, right, bin_ = confidence_bins(probabilities, labels, "mass")
    return [
        ReliabilityBin(int(here.sum()), float(confidence[here].mean()), float(right[here].mean()))
        for here in (bin_ == one for one in np.unique(bin_))
    ]


def error(probabilities: NDArray[np.floating], labels: NDArray[np.integer], bins: Bins = "mass") -> float:
    """Expected calibration error over 15 bins, in [0, 1]; "mass": equally many answers in each, the stated figure;
    "width": equally wide."""
    return calibration_error(probabilities, labels, kind=bins)


def error_interval(
    probabilities: NDArray[np.floating],
    labels: NDArray[np.integer],
    groups: NDArray[np.generic],
    *,
    rng: np.random.Generator,
    bins: Bins = "mass",
    draws: int = DRAWS,
) -> Interval:
    """95 % interval of the expected calibration error over groups; 0 lies in it when chance alone explains the error.

    The error of a finite sample lies above the true one, since each bin's gap counts without its sign, so it is not
    resampled but compared, see `inverted_interval`. The noise of the gaps is that of a Bayesian bootstrap over groups
    (Rubin 1981), not less than that of independent answers whose confidence is true.

    Args:
        groups: (n,) names; with a single one the noise is that of independent answers.
    """
    confidence, right, bin_ = confidence_bins(probabilities, labels, bins)
    group, images = index_groups(groups), len(labels)
    sums, sizes = np.zeros((int(group.max()) + 1, BINS)), np.bincount(group)
    np.add.at(sums, (group, bin_), right - confidence)
    gaps = sums.sum(axis=0) / images
    alone = np.bincount(bin_, confidence * (1 - confidence), minlength=BINS) / images**2
    weights = rng.standard_gamma(1.0, (draws, len(sizes)))
    noise = (weights @ sums) / (weights @ sizes)[:, None] - gaps
    spread = noise.var(axis=0)
    if len(sizes) == 1:
        noise = rng.standard_normal((draws, BINS)) * np.sqrt(alone)
    elif spread.sum() < alone.sum():
        noise = _widened(noise, spread, alone, rng)
    return inverted_interval(gaps, noise, lambda each: np.abs(each).sum(axis=-1))


def _widened(
    noise: NDArray[np.float64], spread: NDArray[np.float64], alone: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Noise (draws, bins) with as much variance in all as independent answers have: few errors hide theirs."""
    if spread.sum() > 0:
        return np.asarray(noise * np.sqrt(alone.sum() / spread.sum()))
    return rng.standard_normal(noise.shape) * np.sqrt(alone)
