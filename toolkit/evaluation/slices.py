"""Figures by camera, lighting or any other column, and whether the gaps between them are more than chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from toolkit.evaluation.answers import Answers
from toolkit.evaluation.columns import slices_of
from toolkit.evaluation.figures import Figure, Judged, share, top_labels
from toolkit.evaluation.intervals import index_groups

SHUFFLES = 2000
LEVEL = 0.05
ENOUGH_IMAGES, ENOUGH_GROUPS = 10, 5


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """The images of one value. `enough` is False where fewer than 10 images or 5 groups are too few to say anything."""

    value: str
    figure: Figure
    enough: bool


class SliceReport(msgspec.Struct, frozen=True, kw_only=True):
    """One column. `gap` is the best less the worst of the slices with enough images, `p` of the test that the column
    makes no difference, `p_holm` corrected for all columns that were looked at (Holm 1979); None where fewer than two
    slices have enough images."""

    column: str
    metric: str
    slices: list[Slice]
    gap: float | None
    p: float | None
    p_holm: float | None
    verdict: str


class Shares(NamedTuple):
    """What a share is of: `right` (n,) among the images of `among` (n,)."""

    right: NDArray[np.bool_]
    among: NDArray[np.bool_]


def report_slices(
    judged: Judged, answers: Answers, columns: Sequence[str], *, metric: str = "accuracy", seed: int = 0
) -> list[SliceReport]:
    """One report a column: the figure of each slice with its interval over groups, the worst first, and a gap test.

    The test shuffles the column between groups, and within a group whose images have several values, so that images of
    one part are not taken as independent. What differs is the variance between the slices.

    Args:
        metric: "accuracy", "defect-recall", "false-alarm-rate", "recall.CLASS" or "precision.CLASS".

    Raises:
        BadInput: no such column or metric, or no image that the metric is of.
    """
    shares = shares_of(judged, metric)
    if not shares.among.any():
        raise BadInput(f"{metric}: no image that it is of")
    tested = []
    for column in columns:
        values = slices_of(answers, judged.names, column)[shares.among]
        slices = divide(shares.right[shares.among], judged.groups[shares.among], values)
        if metric == "false-alarm-rate":
            slices = slices[::-1]
        large = np.isin(values, [one.value for one in slices if one.enough])
        inside = np.flatnonzero(shares.among)[large]
        p = permutation_p(shares.right[inside], judged.groups[inside], values[large], seed=seed)
        tested.append((column, slices, p))
    corrected = holm([p for _, _, p in tested])
    return [_report(column, metric, slices, p, by) for (column, slices, p), by in zip(tested, corrected, strict=True)]


def shares_of(judged: Judged, metric: str) -> Shares:
    """The share behind a metric.

    Raises:
        BadInput: it is none that is a share of images, or there is no such class.
    """
    truth, said = judged.truth(), judged.said()
    all_, good = np.ones(len(truth), bool), judged.good()
    if metric == "accuracy":
        return Shares(judged.logits.argmax(axis=1) == top_labels(judged.logits, judged.labels, judged.marks), all_)
    if metric in ("defect-recall", "false-alarm-rate") and good.any() and not good.all():
        defect = np.asarray(~truth[:, good].any(axis=1))
        return Shares(judged.called_defect(), defect if metric == "defect-recall" else ~defect)
    what, _, name = metric.partition(".")
    if what in ("recall", "precision") and name in judged.names:
        place = judged.names.index(name)
        pair = (said[:, place], truth[:, place])
        return Shares(*(pair if what == "recall" else pair[::-1]))
    known = "accuracy, defect-recall, false-alarm-rate, recall.CLASS, precision.CLASS"
    raise BadInput(f"no share {metric!r} to divide; known are {known}, with the classes {', '.join(judged.names)}")


def permutation_p(
    right: NDArray[np.bool_], groups: NDArray[np.generic], values: NDArray[np.str_], *, seed: int, draws: int = SHUFFLES
) -> float | None:
    """p of the test that a share does not depend on the value, by shuffling values between groups and, where a group
    has several, within it; None with fewer than two values.

    >>> right = np.arange(200) < 100
    >>> permutation_p(right, np.arange(200) // 5, np.where(right, "a", "b"), seed=0) < 0.01
    True
    """
    kinds, value = np.unique(values, return_inverse=True)
    if len(kinds) < 2:
        return None
    group, rng = index_groups(groups), np.random.default_rng(seed)
    first = np.full(int(group.max()) + 1, -1)
    first[group] = value
    mixed = np.zeros(len(first), bool)
    mixed[group[first[group] != value]] = True
    pure, within = ~mixed, np.flatnonzero(mixed[group])
    seen = _between(right, value, len(kinds))
    reached = 0
    for _ in range(draws):
        moved = first.copy()
        moved[pure] = rng.permutation(first[pure])
        shuffled = moved[group]
        if len(within):
            order = np.lexsort((rng.random(len(within)), group[within]))
            shuffled[within[np.argsort(group[within], kind="stable")]] = value[within[order]]
        reached += _between(right, shuffled, len(kinds)) >= seen - 1e-12
    return (1 + reached) / (1 + draws)


def holm(values: Sequence[float | None]) -> list[float | None]:
    """p-values corrected for their number (Holm 1979), None left out.

    >>> holm([0.01, None, 0.04])
    [0.02, None, 0.04]
    """
    there = sorted((value, place) for place, value in enumerate(values) if value is not None)
    out: list[float | None] = [None] * len(values)
    highest = 0.0
    for rank, (value, place) in enumerate(there):
        highest = max(highest, min(1.0, (len(there) - rank) * value))
        out[place] = highest
    return out


def divide(right: NDArray[np.bool_], groups: NDArray[np.str_], values: NDArray[np.str_]) -> list[Slice]:
    found = []
    for value in np.unique(values):
        figure = share(right, groups, values == value)
        if figure is not None:
            enough = figure.images >= ENOUGH_IMAGES and figure.groups >= ENOUGH_GROUPS
            found.append(Slice(value=str(value), figure=figure, enough=enough))
    return sorted(found, key=lambda one: (not one.enough, one.figure.value))


def _between(right: NDArray[np.bool_], value: NDArray[np.int64], kinds: int) -> float:
    """Sum over the slices of images times the squared distance of their share from that of all."""
    sizes = np.bincount(value, minlength=kinds)
    hits = np.bincount(value, right, minlength=kinds)
    shares = hits / np.maximum(sizes, 1)
    return float((sizes * (shares - right.mean()) ** 2).sum())


def _report(column: str, metric: str, slices: list[Slice], p: float | None, p_holm: float | None) -> SliceReport:
    large = [one for one in slices if one.enough]
    if p is None or p_holm is None:
        verdict, gap = f"{column}: fewer than two slices have enough images to compare", None
    else:
        worst, best = large[0], large[-1]
        gap = abs(best.figure.value - worst.figure.value)
        said = f"{metric} is {worst.figure.value:.3f} at {worst.value}, {best.figure.value:.3f} at {best.value}"
        chance = "more than chance" if p_holm < LEVEL else "no more than chance may give"
        verdict = f"{column}: {said}; {chance} (p {p_holm:.3g}, corrected for all columns asked)"
    return SliceReport(column=column, metric=metric, slices=slices, gap=gap, p=p, p_holm=p_holm, verdict=verdict)
