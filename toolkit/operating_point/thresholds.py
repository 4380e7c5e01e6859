"""Where to pass, where to reject and where to ask a person: the thresholds of least expected cost."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from toolkit.operating_point.bounds import measure_share
from toolkit.operating_point.costs import Costs

BEYOND = 1.0  # log-odds past the last score


class Band(NamedTuple):
    """A part passes below `low`, is rejected from `high` on, and goes to a person between: log-odds of its defect
    score."""

    low: float
    high: float


class Scored(NamedTuple):
    """Images with a defect score: log-odds (n,), whether each is a defect (n,), its group (n,), and the share of the
    line's parts that it stands for (n,), adding up to 1."""

    scores: NDArray[np.float64]
    defect: NDArray[np.bool_]
    groups: NDArray[np.generic]
    weights: NDArray[np.float64]

    def only(self, rows: NDArray[np.bool_]) -> Scored:
        """The images of a mask (n,); good parts and defects keep the shares of the line that they have here."""
        weights = np.where(rows, self.weights, 0.0)
        for kind in (self.defect, ~self.defect):
            weights[kind] *= self.weights[kind].sum() / max(weights[kind].sum(), 1e-300)
        return Scored(self.scores[rows], self.defect[rows], self.groups[rows], weights[rows])


def candidates(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Thresholds (k,) ascending that part the scores in every way that can be told: halfway between two neighbours, and
    beyond either end.

    >>> candidates(np.array([2.0, 1.0, 2.0])).tolist()
    [0.0, 1.5, 3.0]
    """
    return _between(np.unique(scores))


def _between(apart: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([[apart[0] - BEYOND], (apart[1:] + apart[:-1]) / 2, [apart[-1] + BEYOND]])


def choose_band(images: Scored, costs: Costs, *, most_escape: float | None = None, confidence: float = 0.95) -> Band:
    """The band of least expected cost on these images.

    Where several are equally cheap, each edge is the one nearest to the threshold that would be best if the scores were
    calibrated (Elkan 2001): then a gap between the scores of good parts and defects is not given away. With
    `most_escape` the lower edge is at most as high as the upper bound of the escape rate allows; the lowest score of
    all, when none does.

    Args:
        images: with both good parts and defects among them.
        costs: without a review cost, low is high.
        most_escape: bound that the escape rate may have, 0 to 1, at `confidence`.

    >>> scores = np.array([-3.0, -2.0, 0.0, 0.5, 3.0, 4.0])
    >>> defect = np.array([False, False, True, False, True, True])
    >>> images = Scored(scores, defect, np.arange(6).astype(str), np.full(6, 1 / 6))
    >>> choose_band(images, Costs(escape=10, overkill=1))
    Band(low=-1.0, high=-1.0)
    >>> choose_band(images, Costs(escape=10, overkill=10, review=0.1))
    Band(low=-1.0, high=1.75)
    """
    edges, defects, good = _below(images)
    review = costs.review
    if review is None:
        total = costs.escape * defects - costs.overkill * good
        low = high = _cheapest(total, edges, math.log(costs.overkill / costs.escape))
    else:
        passing = costs.escape * defects - review * (defects + good)
        rejecting = review * (defects + good) - costs.overkill * good
        low, high = _cheapest_pair(passing, rejecting, edges, _calibrated(costs.escape, costs.overkill, review))
    if most_escape is not None:
        safe = _safe(images, edges, most_escape, confidence)
        low = min(low, safe)
        high = low if review is None else max(high, low)
    return Band(float(low), float(high))


def _below(images: Scored) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Edges (k,) as `candidates` gives them, and the shares (k,) of the line's parts that are defects, and good parts,
    below each."""
    apart, place = np.unique(images.scores, return_inverse=True)
    sums = []
    for kind in (images.defect, ~images.defect):
        at = np.bincount(place, images.weights * kind, minlength=len(apart))
        sums.append(np.concatenate([[0.0], np.cumsum(at)]))
    return _between(apart), sums[0], sums[1]


def _cheapest(cost: NDArray[np.float64], edges: NDArray[np.float64], calibrated: float) -> float:
    """The edge of least cost, among equals the nearest to `calibrated`."""
    best = np.flatnonzero(cost <= cost.min() + 1e-9 * (np.abs(cost).max() + 1e-300))
    return float(edges[best[np.abs(edges[best] - calibrated).argmin()]])


def _cheapest_pair(
    passing: NDArray[np.float64], rejecting: NDArray[np.float64], edges: NDArray[np.float64], calibrated: Band
) -> Band:
    """Edges low <= high with the least sum of passing[low] + rejecting[high]."""
    best_below = np.minimum.accumulate(passing)
    least = float((best_below + rejecting).min())
    slack = 1e-9 * float(np.abs(passing).max() + np.abs(rejecting).max() + 1e-300)
    tops = np.flatnonzero(best_below + rejecting <= least + slack)
    high = int(tops[np.abs(edges[tops] - calibrated.high).argmin()])
    return Band(_cheapest(passing[: high + 1], edges[: high + 1], calibrated.low), float(edges[high]))


def _calibrated(escape: float, overkill: float, review: float) -> Band:
    """The edges for calibrated scores: asking a person costs `review` whatever the part is."""

    def odds(part: float, whole: float) -> float:
        share = min(max(part / whole, 1e-12), 1 - 1e-12)
        return math.log(share / (1 - share))

    if review >= escape * overkill / (escape + overkill):
        alone = math.log(overkill / escape)
        return Band(alone, alone)
    return Band(odds(review, escape), odds(overkill - review, overkill))


def _safe(images: Scored, edges: NDArray[np.float64], most: float, confidence: float) -> float:
    """The highest edge at which the bound of the escape rate is at most `most`; the lowest edge when none is."""
    scores, groups, weights = images.scores[images.defect], images.groups[images.defect], images.weights[images.defect]
    low, high = 0, len(edges) - 1
    while low < high:
        middle = (low + high + 1) // 2
        share = measure_share(scores < edges[middle], groups, confidence, weights=weights)
        low, high = (middle, high) if share.upper <= most else (low, middle - 1)
    return float(edges[low])
