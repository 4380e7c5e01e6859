"""How well a score ranks images: average precision and its curve, and what the top few hold."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from toolkit.evaluation.intervals import PRIOR, Interval, drawn_interval, index_groups, typical_size

CHUNK = 4_000_000  # numbers in memory at one time


def precision_recall(
    truth: NDArray[np.bool_], scores: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Precision, recall and threshold (k,) at each different score, from the highest; images of equal scores are called
    together.

    >>> precision, recall, _ = precision_recall(np.array([True, False, True]), np.array([0.9, 0.5, 0.5]))
    >>> precision.round(2).tolist(), recall.tolist()
    ([1.0, 0.67], [0.5, 1.0])
    """
    order, ends = _order(scores)
    found, called = np.cumsum(truth[order])[ends], ends + 1.0
    return found / called, found / max(truth.sum(), 1), np.asarray(scores, np.float64)[order][ends]


def average_precision(truth: NDArray[np.bool_], scores: NDArray[np.floating]) -> float:
    """Area under the steps of the precision-recall curve, in [0, 1]; `truth` (n,) has at least one True.

    >>> round(average_precision(np.array([True, False, True]), np.array([0.9, 0.8, 0.1])), 3)
    0.833
    """
    return float(_average_precisions(truth, scores, np.ones((1, len(truth))))[0])


def average_precision_draws(
    truth: NDArray[np.bool_],
    scores: NDArray[np.floating],
    groups: NDArray[np.generic],
    *,
    rng: np.random.Generator,
    draws: int = 400,
) -> NDArray[np.float64]:
    """Values (draws,) of average precision by a Bayesian bootstrap over groups, with half an independent image that is
    found first and half a one that is never found as the prior."""
    group = index_groups(groups)
    weights = rng.standard_gamma(1.0, (draws, int(group.max()) + 1))
    per = max(1, CHUNK // len(truth))
    found = np.concatenate(
        [_average_precisions(truth, scores, weights[at : at + per][:, group]) for at in range(0, draws, per)]
    )
    sizes = np.bincount(group, truth).astype(np.float64)
    positives = weights @ sizes
    right, wrong = typical_size(sizes) * rng.standard_gamma(PRIOR, (2, draws))
    return np.asarray((found * positives + right) / (positives + right + wrong))


def average_precision_interval(
    truth: NDArray[np.bool_],
    scores: NDArray[np.floating],
    groups: NDArray[np.generic],
    *,
    rng: np.random.Generator,
    draws: int = 400,
) -> Interval:
    """95 % interval of average precision over groups; `truth` (n,) has at least one True."""
    drawn = average_precision_draws(truth, scores, groups, rng=rng, draws=draws)
    return drawn_interval(average_precision(truth, scores), drawn)


def top_rows(scores: NDArray[np.floating], share: float) -> NDArray[np.int64]:
    """The rows of the highest `share` of the scores, at least one, highest first; equal scores in order of the rows.

    >>> top_rows(np.array([0.1, 0.9, 0.5, 0.7]), 0.5).tolist()
    [1, 3]
    """
    count = max(1, round(share * len(scores)))
    return np.argsort(-np.asarray(scores, np.float64), kind="stable")[:count]


def _order(scores: NDArray[np.floating]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows from the highest score, and the last place of each run of equal scores."""
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    ranked = np.asarray(scores)[order]
    return order, np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))


def _average_precisions(
    truth: NDArray[np.bool_], scores: NDArray[np.floating], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """One value for each row of weights (draws, n)."""
    order, ends = _order(scores)
    ranked = weights[:, order]
    called = np.cumsum(ranked, axis=1)[:, ends]
    found = np.cumsum(ranked * truth[order], axis=1)[:, ends]
    gained = np.diff(found, axis=1, prepend=0.0)
    return np.asarray((gained * found / np.maximum(called, 1e-12)).sum(axis=1) / np.maximum(found[:, -1], 1e-12))
