"""A sample by chance from cells of predicted class and confidence, that says most about how often a model is right.

Each picture has a known probability of being drawn, so that the labels of the few tell of all without bias (Horvitz &
Thompson 1952), and more exactly than a simple random sample of the same size, as the cells in which errors are likely
get more than their share (Neyman 1934).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from toolkit.data.doubt import Doubt

Rows = NDArray[np.int64]
Vector = NDArray[np.float64]

LEVELS = ((0.0, 1.0, 2.0, 3.5, 5.0, 7.0), (1.0, 3.0, 5.0), (2.0, 5.0), (3.5,), ())
"""Borders between confidences in log-odds, from fine to coarse; all are borders of the device's histogram."""
LEAST = 2  # drawn from each cell: one tells nothing of how much its pictures differ
GUARD = 0.25
"""Share of the budget that follows the size of the cells alone, so that a confidence that is far too high cannot hide a
cell full of errors (a defensive mixture: Hesterberg 1995). It costs at most a third more pictures for one variance."""


class Draw(NamedTuple):
    """Pictures drawn by chance, one entry each: its row, its cell, its probability of being drawn, and the part of that
    which comes from drawing within its group; both in (0, 1]."""

    rows: Rows
    cells: list[str]
    probabilities: Vector
    within_group: Vector


def allocate(sizes: NDArray[np.integer], spreads: Vector, budget: int, least: int = LEAST) -> Rows:
    """How many to draw from each cell: (cells,) int64 that add up to `budget`, or to all there are.

    Three quarters in proportion to size times spread (Neyman 1934), a quarter in proportion to size, at least `least`
    and at most all of a cell.

    Args:
        sizes: (cells,) pictures, 1 or more.
        spreads: (cells,) standard deviation within the cell of what is to be estimated, 0 or more.

    >>> allocate(np.array([900, 100, 1]), np.array([0.1, 0.4, 0.5]), 40).tolist()
    [29, 10, 1]

    Raises:
        BadInput: a budget under `least` of each cell.
    """
    counts = np.minimum(sizes, least).astype(np.int64)
    if counts.sum() > budget:
        raise BadInput(f"a budget of {budget} is too small for {len(sizes)} cells; at least {counts.sum()} are needed")
    sizes = np.asarray(sizes, np.int64)
    budget = min(budget, int(sizes.sum()))
    neyman = sizes * np.maximum(spreads, 1e-9)
    wish = (1 - GUARD) * neyman / neyman.sum() + GUARD * sizes / sizes.sum()
    share = _filled(wish, counts.astype(np.float64), sizes.astype(np.float64), budget)
    counts = np.maximum(counts, np.floor(share + 1e-9).astype(np.int64))
    for cell in np.argsort(-(share - counts), kind="stable"):
        counts[cell] += bool(counts.sum() < budget and counts[cell] < sizes[cell])
    return np.asarray(counts, np.int64)


def draw(doubt: Doubt, groups: list[str], budget: int, rng: np.random.Generator, *, per_group: int = 1) -> Draw:
    """`budget` pictures by chance, at most `per_group` of a group, or as many as that leaves.

    First as many pictures as allowed are drawn from each group, each as likely as the others; then these are put into
    cells, and some are drawn from each (two-phase sampling: Särndal, Swensson & Wretman 1992, chapter 9). The spread of
    a cell is that of its errors, which the calibrated confidence foretells; where it is wrong, the sample is less exact
    and as unbiased.

    Raises:
        BadInput: a budget under two for each class that was answered.
    """
    frame, first = thin(groups, rng, per_group)
    cell, names = _cells(doubt, frame, budget)
    sizes = np.bincount(cell)
    counts = allocate(sizes, _spreads(doubt, frame, 1 / first, cell), budget)
    rows, found, chances = [], list[str](), []
    for number, name in enumerate(names):
        here = rng.permutation(np.flatnonzero(cell == number))[: counts[number]]
        rows.append(here)
        found += [name] * len(here)
        chances.append(first[here] * counts[number] / sizes[number])
    drawn = np.concatenate(rows)
    return Draw(frame[drawn], found, np.concatenate(chances), first[drawn])


def thin(groups: list[str], rng: np.random.Generator, per_group: int) -> tuple[Rows, Vector]:
    """At most `per_group` rows of each group, drawn by chance, in ascending order, and the probability of each.

    >>> rows, chances = thin(["a", "a", "b"], np.random.default_rng(0), 1)
    >>> len(rows), chances.tolist()
    (2, [0.5, 1.0])
    """
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    mixed = rng.permutation(len(groups))
    order = mixed[np.argsort(group[mixed], kind="stable")]
    size = np.bincount(group)
    place = np.arange(len(groups)) - np.repeat(np.cumsum(size) - size, size)
    kept = np.sort(order[place < per_group])
    return kept, np.minimum(per_group / size[group[kept]], 1.0)


def _cells(doubt: Doubt, frame: Rows, budget: int) -> tuple[Rows, list[str]]:
    """The cell of each row of the frame, and the names of the cells: as fine as leaves half of the budget free."""
    odds = np.log(np.maximum(doubt.confidence[frame], 1e-300) / np.maximum(1 - doubt.confidence[frame], 1e-300))
    for borders in LEVELS:
        level = np.searchsorted(borders, odds, side="right")
        keys, cell = np.unique(doubt.labels[frame] * (len(borders) + 1) + level, return_inverse=True)
        if 2 * np.minimum(np.bincount(cell), LEAST).sum() <= budget:
            break
    edges = [0.0, *(1 / (1 + np.exp(-np.asarray(borders)))), 1.0]
    places = [divmod(key, len(borders) + 1) for key in keys.tolist()]
    return cell, [f"{doubt.names[label]} {edges[step]:.4g}-{edges[step + 1]:.4g}" for label, step in places]


def _spreads(doubt: Doubt, frame: Rows, weights: Vector, cell: Rows) -> Vector:
    """Standard deviation within each cell of weight times error, the error being 1 with the probability that the
    confidence leaves; an error more is supposed in each cell, shared by as many as there are in it."""
    size = np.bincount(cell)
    wrong = (np.bincount(cell, 1 - doubt.confidence[frame]) + 0.5) / (size + 1)
    square = np.bincount(cell, weights**2) / size
    mean = np.bincount(cell, weights) / size
    return np.sqrt(np.maximum(square * wrong - (mean * wrong) ** 2, 0))


def _filled(wish: Vector, low: Vector, high: Vector, total: int) -> Vector:
    """Shares in proportion to `wish`, each within its limits, that add up to `total`."""
    under, over = 0.0, float((high / wish).max())
    for _ in range(100):
        middle = (under + over) / 2
        small = np.clip(middle * wish, low, high).sum() < total
        under, over = (middle, over) if small else (under, middle)
    return np.clip(over * wish, low, high)
