"""Intervals over groups: images of one part are not independent, so a group counts, not an image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from converters.macro_f1 import count, macro_f1

Z = 1.959964  # the normal quantile of a two-sided 95 % interval
PRIOR = 0.5
Interval = tuple[float, float]


def group_bootstrap(
    labels: NDArray[np.integer],
    predicted: NDArray[np.integer],
    groups: NDArray[np.generic],
    classes: int,
    *,
    rng: np.random.Generator,
    draws: int = 1000,
) -> tuple[Interval, Interval]:
    """95 % intervals of accuracy and of macro-F1, which hold also where few answers or none were wrong.

    Args:
        labels, predicted: (n,) classes, 0 to classes - 1.
        groups: (n,) names.

    >>> ones = np.ones(50, int)
    >>> accuracy, _ = group_bootstrap(ones, ones, np.arange(50), 2, rng=np.random.default_rng(0))
    >>> f"{accuracy[0]:.3f} to {accuracy[1]:.3f}"
    '0.929 to 1.000'
    """
    _, group = np.unique(np.asarray(groups).astype(str), return_inverse=True)
    counts = np.zeros((3, int(group.max()) + 1, classes))
    for total, each in zip(counts, count(labels, predicted, classes), strict=True):
        np.add.at(total, group, each)
    effect = _design_effect(counts)
    images, score = counts[1].sum(), float(macro_f1(counts.sum(axis=1)))
    return _wilson(counts[0].sum() / images, images / effect), _wilson(score, _worth(counts, effect, rng, draws))


def _design_effect(counts: NDArray[np.float64]) -> float:
    """How many images of these groups are worth one independent image (Kish 1965); counts (3, groups, classes).

    It is the variance of the share that is right over that of independent images. Few errors cannot tell whether they
    come in groups, so one more is supposed that does: in a group of the size that a typical image's has, wholly wrong.
    """
    right, size = counts[0].sum(axis=1), counts[1].sum(axis=1)
    share = right.sum() / size.sum()
    strays = len(size) / max(len(size) - 1, 1) * ((right - share * size) ** 2).sum()
    return max(float((strays + (size**2).sum() / size.sum()) / (size.sum() * share * (1 - share) + 1)), 1.0)


def _worth(counts: NDArray[np.float64], effect: float, rng: np.random.Generator, draws: int) -> float:
    """How many independent images would settle a share as well as these settle macro-F1; counts (3, groups, classes).

    By a Bayesian bootstrap over groups (Rubin 1981) with Jeffreys' prior: half an independent image that is right and
    half a one that is wrong, shared among the classes that occur. The bootstrap gives the variance only; its middle
    lies too low, since F1 is concave.
    """
    there = counts[1].sum(axis=0) > 0
    share = np.where(there, PRIOR / there.sum(), 1e-9)
    right, wrong = effect * rng.standard_gamma(share, (2, draws, len(there))) * there
    prior = np.stack([right, right + wrong, right + rng.permuted(wrong, axis=1)])
    drawn = macro_f1(rng.standard_gamma(1.0, (draws, counts.shape[1])) @ counts + prior)
    middle = float(drawn.mean())
    return max(middle * (1 - middle) / max(float(drawn.var()), 1e-12) - 2, 1.0)


def _wilson(share: float, images: float) -> Interval:
    """95 % interval of a share seen in so many independent images (Wilson 1927)."""
    middle = (share + Z**2 / (2 * images)) / (1 + Z**2 / images)
    half = Z / (1 + Z**2 / images) * np.sqrt(share * (1 - share) / images + Z**2 / (4 * images**2))
    return max(float(middle - half), 0.0), min(float(middle + half), 1.0)
