"""Intervals over groups: images of one part are not independent, so a group counts, not an image."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from converters.macro_f1 import count, macro_f1

Z = 1.959964  # the normal quantile of a two-sided 95 % interval
PRIOR = 0.5
DRAWS = 1000
Interval = tuple[float, float]
Counts = NDArray[np.float64]
Statistic = Callable[[Counts], NDArray[np.floating]]
Size = Callable[[NDArray[np.floating]], NDArray[np.floating]]
TAIL = 0.025


def index_groups(groups: NDArray[np.generic]) -> NDArray[np.int64]:
    """Each group's number, 0 to groups - 1: (n,) int64.

    >>> index_groups(np.array(["b", "a", "b"])).tolist()
    [1, 0, 1]
    """
    return np.unique(np.asarray(groups).astype(str), return_inverse=True)[1].astype(np.int64)


def share_interval(right: NDArray[np.bool_], groups: NDArray[np.generic]) -> Interval:
    """95 % interval of a share, such as a recall over the images of its class: Wilson's, over as many images as these
    are worth by the design effect of their groups.

    Args:
        right: (n,) bool, n >= 1.
        groups: (n,) names or numbers.

    >>> low, high = share_interval(np.ones(60, bool), np.repeat(np.arange(6), 10))
    >>> f"{low:.2f} to {high:.2f}"
    '0.61 to 1.00'
    """
    group = index_groups(groups)
    counts = np.stack([np.bincount(group, right), np.bincount(group)])[:, :, None].astype(np.float64)
    return _wilson(float(np.mean(right)), len(right) / _design_effect(counts))


def group_bootstrap(
    labels: NDArray[np.integer],
    predicted: NDArray[np.integer],
    groups: NDArray[np.generic],
    classes: int,
    *,
    rng: np.random.Generator,
    draws: int = DRAWS,
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
    counts = group_counts(count(labels, predicted, classes), groups)
    images = counts[1].sum()
    accuracy = _wilson(counts[0].sum() / images, images / _design_effect(counts))
    return accuracy, count_interval(counts, macro_f1, rng=rng, draws=draws)


def group_counts(counts: Counts, groups: NDArray[np.generic]) -> Counts:
    """Counts (3, n, classes) of images, as `converters.macro_f1.count` makes them, added up by group:
    (3, groups, classes)."""
    group = index_groups(groups)
    out = np.zeros((3, int(group.max()) + 1, counts.shape[2]))
    for total, each in zip(out, counts, strict=True):
        np.add.at(total, group, each)
    return out


def count_interval(counts: Counts, statistic: Statistic, *, rng: np.random.Generator, draws: int = DRAWS) -> Interval:
    """95 % interval of a mean over classes, such as macro-F1 or balanced accuracy.

    Args:
        counts: (3, groups, classes): right, true, called.
        statistic: from counts (3, ..., classes) to values (...) in [0, 1].
    """
    score = float(statistic(counts.sum(axis=1)))
    return _wilson(score, _worth(counts, statistic, _design_effect(counts), rng, draws))


def drawn_interval(score: float, drawn: NDArray[np.float64]) -> Interval:
    """95 % interval of a figure in [0, 1] from bootstrap values (draws,) of it that include a prior: Wilson's, over as
    many images as would settle a share that well."""
    return _wilson(score, _images_worth(drawn))


def inverted_interval(gaps: NDArray[np.floating], noise: NDArray[np.floating], size: Size) -> Interval:
    """95 % interval of the size of several gaps together, such as the sum of their magnitudes, whose estimate lies
    above the truth because noise has a size too; 0 lies in it when noise alone explains what was seen.

    What was seen is compared with what would be, were the true gaps `s` times those that were seen: the interval holds
    each `s` under which it lies between the 2.5 and 97.5 % quantiles (a test inverted).

    Args:
        gaps: (k,) as seen.
        noise: (draws, k) around 0.
        size: from (..., k) to (...), >= 0, and twice as large for gaps twice as large.

    >>> noise = np.random.default_rng(0).normal(0, 0.1, (1000, 3))
    >>> inverted_interval(np.array([0.05, -0.1, 0.02]), noise, lambda each: np.abs(each).sum(axis=-1))[0]
    0.0
    """
    seen = float(size(gaps))
    if seen == 0:
        return 0.0, float(np.quantile(size(noise), 1 - TAIL))

    def below(scale: float) -> float:
        return float((size(scale * gaps + noise) < seen).mean())

    low = 0.0 if below(0) <= 1 - TAIL else _bisect(lambda scale: below(scale) > 1 - TAIL)
    high = max(_bisect(lambda scale: below(scale) > TAIL), 1.0)  # less than noise alone would give is no proof of none
    return min(low * seen, 1.0), min(high * seen, 1.0)


def _bisect(holds: Callable[[float], bool]) -> float:
    """The scale up to which `holds`, which is true at 0 and false beyond some scale."""
    low, high = 0.0, 1.0
    while holds(high) and high < 1e6:
        low, high = high, 2 * high
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return (low + high) / 2


def mean_recall(counts: Counts) -> NDArray[np.float64]:
    """Balanced accuracy (...): the mean recall of the classes that occur, from counts (3, ..., classes).

    >>> float(mean_recall(np.array([[3.0, 1.0], [3.0, 2.0], [4.0, 1.0]])))
    0.75
    """
    right, true, _ = counts
    there = true > 0
    return np.asarray((right / np.where(there, true, 1) * there).sum(axis=-1) / there.sum(axis=-1))


def typical_size(sizes: NDArray[np.floating]) -> float:
    """Images in the group of a typical image: sum of squares over sum.

    >>> typical_size(np.array([1.0, 3.0]))
    2.5
    """
    return float((sizes**2).sum() / sizes.sum())


def _design_effect(counts: NDArray[np.float64]) -> float:
    """How many images of these groups are worth one independent image (Kish 1965); counts (2 or 3, groups, classes).

    It is the variance of the share that is right over that of independent images. Few errors cannot tell whether they
    come in groups, so one more is supposed that does: in a group of the size that a typical image's has, wholly wrong.
    """
    right, size = counts[0].sum(axis=1), counts[1].sum(axis=1)
    share = right.sum() / size.sum()
    strays = len(size) / max(len(size) - 1, 1) * ((right - share * size) ** 2).sum()
    return max(float((strays + typical_size(size)) / (size.sum() * share * (1 - share) + 1)), 1.0)


def _worth(counts: Counts, statistic: Statistic, effect: float, rng: np.random.Generator, draws: int) -> float:
    """How many independent images would settle a share as well as these settle the statistic; counts
    (3, groups, classes).

    By a Bayesian bootstrap over groups (Rubin 1981) with Jeffreys' prior: half an independent image that is right and
    half a one that is wrong, shared among the classes that occur. The bootstrap gives the variance only; its middle
    lies too low, since F1 is concave.
    """
    there = counts[1].sum(axis=0) > 0
    share = np.where(there, PRIOR / there.sum(), 1e-9)
    right, wrong = effect * rng.standard_gamma(share, (2, draws, len(there))) * there
    prior = np.stack([right, right + wrong, right + rng.permuted(wrong, axis=1)])
    return _images_worth(statistic(rng.standard_gamma(1.0, (draws, counts.shape[1])) @ counts + prior))


def _images_worth(drawn: NDArray[np.floating]) -> float:
    middle = float(drawn.mean())
    return max(middle * (1 - middle) / max(float(drawn.var()), 1e-12) - 2, 1.0)


def _wilson(share: float, images: float) -> Interval:
    """95 % interval of a share seen in so many independent images (Wilson 1927)."""
    middle = (share + Z**2 / (2 * images)) / (1 + Z**2 / images)
    half = Z / (1 + Z**2 / images) * np.sqrt(share * (1 - share) / images + Z**2 / (4 * images**2))
    return max(min(float(middle - half), share), 0.0), min(max(float(middle + half), share), 1.0)
