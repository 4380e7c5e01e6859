"""Accuracy of a whole pool from the labels of a few of its pictures that were drawn by chance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from toolkit.data.tables import read_table
from toolkit.evaluation.intervals import Z

BORROWED = 4.0
"""Pictures of the whole that a cell without errors borrows for its variance: with fewer, intervals of 10 to 60 labels
hold the truth in under 93 % of simulated draws, with more the interval of many labels grows for nothing."""
NEEDED = ("class", "predicted", "cell", "weight", "within_group")


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """Accuracy in [0, 1] of a model on the pool behind a list: from `images` drawn by chance and labelled, each with
    its weight, so that they stand for `pool` pictures; the interval is 95 %. `as_good_as` is the size of a simple
    random sample that would be as exact. `not_drawn` pictures of the list were chosen for their own sake and left out.
    """

    accuracy: float
    interval: tuple[float, float]
    images: int
    pool: int
    as_good_as: int
    not_drawn: int = 0
    provenance: str = "measured"


def estimate(
    right: NDArray[np.bool_],
    cells: Sequence[str],
    weights: NDArray[np.floating],
    within_group: NDArray[np.floating] | float = 1.0,
) -> Estimate:
    """The accuracy of the pool from which these were drawn.

    The share of errors is the weighted sum of the errors over the sum of the weights (Horvitz & Thompson 1952; Hájek
    1971). Its variance is that of two phases, within the groups and within the cells (Särndal, Swensson & Wretman 1992,
    chapter 9); a cell in which no error was found is not free of them, but as if a few more pictures had been drawn
    from all (`BORROWED`). The interval is Wilson's (1927) for a simple sample that is as exact; where no error at all
    was found nothing is known of where they are, and no more is claimed than for as many pictures of a simple sample.

    Args:
        right: (n,) whether the model's answer is the label.
        cells: (n,) names.
        weights: (n,) inverse probabilities of being drawn, 1 or more.
        within_group: (n,) the part of the probabilities that comes from drawing within a group, in (0, 1].

    >>> drawn = np.repeat([True, False, True], [95, 5, 20])
    >>> found = estimate(drawn, ["sure"] * 100 + ["unsure"] * 20, np.repeat([9.0, 5.0], [100, 20]))
    >>> found.pool, round(found.accuracy, 3)
    (1000, 0.955)

    Raises:
        BadInput: nothing drawn, or weights below 1.
    """
    if not len(right):
        raise BadInput("no picture of the list was drawn by chance; select with --strategy neyman or mix")
    part = np.broadcast_to(np.asarray(within_group, np.float64), weights.shape)
    if not ((weights * part >= 1 - 1e-9).all() and (part > 0).all() and (part <= 1).all() and weights.max() < np.inf):
        raise BadInput("weights must be 1 or more, and within_group from 1 / weight to 1")
    wrong = ~np.asarray(right, np.bool_)
    total, share = float(weights.sum()), float((weights * wrong).sum() / weights.sum())
    pooled = (share * len(wrong) + 0.5) / (len(wrong) + 1)
    one, two = 1 / part, weights * part
    variance, cell = 0.0, np.unique(np.asarray(cells), return_inverse=True)[1]
    for number in range(int(cell.max()) + 1):
        here = cell == number
        errors = wrong[here].mean() or BORROWED * pooled / (here.sum() + BORROWED)
        spread = (one[here] ** 2).mean() * errors - (one[here].mean() * errors) ** 2
        variance += float((two[here] * (two[here] - 1)).sum() * spread)
        variance += float((weights[here] * (one[here] - 1)).sum() * errors)
    variance /= total**2
    most = total if wrong.any() or len(wrong) == round(total) else len(wrong)
    images = most if variance <= 0 else min(pooled * (1 - pooled) / variance, most)
    low, high = _wilson(share, images)
    return Estimate(
        accuracy=1 - share,
        interval=(1 - high, 1 - low),
        images=len(wrong),
        pool=round(total),
        as_good_as=round(images),
    )


def estimate_list(path: Path) -> Estimate:
    """The same from a list of `lineside data select` whose column class was filled in.

    Raises:
        BadInput: not such a list, or a picture that was drawn by chance and has no class.
    """
    table = read_table(path)
    missing = [name for name in NEEDED if name not in table.columns]
    if missing:
        raise BadInput(f"{path}: no column {missing[0]!r}; a list of lineside data select is needed")
    classes, predicted, cells, weights, within = (table.columns[name] for name in NEEDED)
    rows = [row for row, weight in enumerate(weights) if weight]
    empty = [row for row in rows if not classes[row]]
    if empty:
        raise BadInput(
            f"{table.where(empty[0])}: {len(empty)} of {len(rows)} pictures that were drawn by chance have no class; "
            "leaving some out would bend the estimate"
        )
    try:
        numbers = np.array([[float(weights[row]), float(within[row])] for row in rows]).reshape(-1, 2)
    except ValueError as error:
        raise BadInput(f"{path}: weight and within_group must be numbers: {error}") from error
    _check_spelling(path, {classes[row] for row in rows}, set(predicted))
    right = np.array([_marks(classes[row]) == _marks(predicted[row]) for row in rows], np.bool_)
    found = estimate(right, [cells[row] for row in rows], numbers[:, 0], numbers[:, 1])
    return msgspec.structs.replace(found, not_drawn=len(table) - len(rows))


def _check_spelling(path: Path, given: set[str], predicted: set[str]) -> None:
    """A class in another spelling would count as an error of the model."""
    known = {name.casefold(): name for name in predicted}
    for name in sorted(given - predicted):
        if name.casefold() in known:
            raise BadInput(f"{path}: class {name!r} must be spelt as the model says it: {known[name.casefold()]!r}")


def _marks(cell: str) -> frozenset[str]:
    return frozenset(part.strip() for part in cell.split("|"))


def _wilson(share: float, images: float) -> tuple[float, float]:
    middle = (share + Z**2 / (2 * images)) / (1 + Z**2 / images)
    half = Z / (1 + Z**2 / images) * np.sqrt(share * (1 - share) / images + Z**2 / (4 * images**2))
    return max(float(middle - half), 0.0), min(float(middle + half), 1.0)
