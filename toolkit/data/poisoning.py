"""Signs that a data set was spoilt, by accident or on purpose: pictures that do not belong to their class at all, a
small mark that only one class carries (Gu et al. 2017, BadNets), a source whose pictures or labels are suddenly other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from device_agent.contract.optional import require
from toolkit.data.looks import OF_THE_PICTURE, Looks
from toolkit.data.suspects import one_thread
from toolkit.data.times import read_times, say_time

_COMPONENTS = 32
_NEIGHBOURS = 5
_MOST_COMPARED = 4000  # images of a class that each is compared with
_FAR = 8.0  # robust standard deviations of the log distance
_FEWEST = 20  # images of a class that can have outliers
_MARK_LEVELS, _MARK_SPREAD = 20.0, 8.0  # grey levels a mark stands out by, and differs from copy to copy
_MARK_IMAGES, _MARK_ODDS, _MARK_ABOVE = 6, 15.0, 4.0
_BLOCKS = 10  # of time
_MOST_SOURCES = 50
_FEWEST_GROUPS = 5  # of a source
_STEP, _SURE = 1.5, 4.5  # standard deviations between groups, and standard errors, from which on a shift is sudden
_LABEL_STEP = 0.25  # share of the images of a source


class Outlier(msgspec.Struct, frozen=True, kw_only=True):
    """An image far from all others of its class: `distance` in robust standard deviations of that class."""

    file: str
    given: str
    distance: float
    row: int


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """A spot that always looks the same, almost only in one class: `x` and `y` from 0 to 1, `inside` and `outside` the
    share of the class and of the rest that have it."""

    given: str
    x: float
    y: float
    images: int
    inside: float
    outside: float
    rows: list[int]


class Shift(msgspec.Struct, frozen=True, kw_only=True):
    """A source that is unlike the others. `kind` is "pictures", "classes" or "labels"; `effect` for pictures in
    standard deviations between groups, else a difference of shares."""

    column: str
    value: str
    kind: str
    what: str
    effect: float
    images: int
    rows: list[int]
    others: list[int]


def find_outliers(
    points: NDArray[np.float32],
    labels: NDArray[np.int64],
    groups: NDArray[np.str_],
    names: list[str],
    files: list[str],
) -> list[Outlier]:
    """Images far from the nearest of their class in other groups, the farthest first.

    Args:
        points: (n, components) as of `components`.
    """
    found = []
    for label in range(len(names)):
        rows = np.flatnonzero(labels == label)
        if len(rows) >= _FEWEST:
            distance = np.log(_distances(points[rows], groups[rows]) + 1e-6)
            middle = np.median(distance)
            spread = max(1.4826 * float(np.median(np.abs(distance - middle))), 0.05)
            for place in np.flatnonzero(distance > middle + _FAR * spread):
                away = float((distance[place] - middle) / spread)
                row = int(rows[place])
                found.append(Outlier(file=files[row], given=names[label], distance=round(away, 1), row=row))
    return sorted(found, key=lambda each: (-each.distance, each.file))


def components(features: NDArray[np.floating], count: int = _COMPONENTS) -> NDArray[np.float32]:
    """The principal components of standardised features (n, features): (n, at most count) float32."""
    reduce = require("sklearn.decomposition", extra="toolkit").PCA(
        min(count, *features.shape), svd_solver="randomized", random_state=0
    )
    some = features[:: max(1, len(features) // 20_000)].astype(np.float32)
    mean, spread = some.mean(axis=0), some.std(axis=0)
    spread = np.maximum(spread, 0.01 * spread.mean() + 1e-9)
    with one_thread():
        reduce.fit((some - mean) / spread)
    parts = [
        reduce.transform((features[at : at + 8192].astype(np.float32) - mean) / spread)
        for at in range(0, len(features), 8192)
    ]
    return np.asarray(np.concatenate(parts), np.float32)


def _distances(points: NDArray[np.float32], groups: NDArray[np.str_]) -> NDArray[np.float64]:
    """Mean distance to the nearest few of other groups; to all, where there is one group only."""
    _, group = np.unique(groups, return_inverse=True)
    group = group.reshape(-1)
    known = np.sort(np.random.default_rng(0).permutation(len(points))[:_MOST_COMPARED])
    squares = (points[known] ** 2).sum(axis=1)
    out = np.empty(len(points))
    for at in range(0, len(points), 1024):
        asked = slice(at, at + 1024)
        apart = (points[asked] ** 2).sum(axis=1)[:, None] + squares - 2 * points[asked] @ points[known].T
        own = group[asked, None] == group[known]
        apart[own & ~own.all(axis=1, keepdims=True)] = np.inf
        nearest = np.sort(np.partition(apart, min(_NEIGHBOURS, apart.shape[1] - 1), axis=1)[:, :_NEIGHBOURS], axis=1)
        there = np.isfinite(nearest)
        total = np.where(there, np.sqrt(np.maximum(nearest, 0)), 0).sum(axis=1)
        out[asked] = total / np.maximum(there.sum(axis=1), 1)
    return out


def find_marks(thumbs: NDArray[np.uint8], labels: NDArray[np.int64], names: list[str]) -> list[Mark]:
    """Spots of constant brightness at a constant place that set one class apart; at most one for each class.

    Args:
        thumbs: (n, side, side) uint8. A mark has to cover about one of its pixels, 1/32 of the side.
    """
    best: dict[int, tuple[float, Mark]] = {}
    for size in (1, 2, 3):
        levels, lifts = _spots(thumbs, size)
        for label in range(len(names)):
            mine = labels == label
            if mine.sum() < _MARK_IMAGES or mine.all():
                continue
            for sign in (1, -1):
                out = sign * lifts > _MARK_LEVELS
                rate, elsewhere = out[mine].mean(axis=0), out[~mine].mean(axis=0)
                usual = max(float(np.quantile(rate, 0.9)), 1 / mine.sum())
                odds = rate / np.maximum(elsewhere, 1 / (~mine).sum())
                fits = (rate * mine.sum() >= _MARK_IMAGES) & (odds > _MARK_ODDS) & (rate > _MARK_ABOVE * usual)
                for y, x in np.argwhere(fits):
                    mark = _mark(levels[:, y, x], out[:, y, x], mine, names[label], (x, y), thumbs.shape[1])
                    if mark is not None and mark.inside > best.get(label, (0.0, None))[0]:
                        best[label] = mark.inside, mark
    return [mark for _, (_, mark) in sorted(best.items())]


def _spots(thumbs: NDArray[np.uint8], size: int) -> tuple[NDArray[np.float16], NDArray[np.float16]]:
    """Level of each spot of size x size pixels, and how far it stands out from the ring around it."""
    levels, lifts = np.empty(thumbs.shape, np.float16), np.empty(thumbs.shape, np.float16)
    for place, thumb in enumerate(thumbs):
        plane = thumb.astype(np.float32)
        inner = cv2.blur(plane, (size, size))
        outer = cv2.blur(plane, (size + 2, size + 2), anchor=((size + 2) // 2, (size + 2) // 2))
        area, whole = size * size, (size + 2) ** 2
        levels[place], lifts[place] = inner, inner - (outer * whole - inner * area) / (whole - area)
    return levels, lifts


def _mark(
    level: NDArray[np.float16],
    out: NDArray[np.bool_],
    mine: NDArray[np.bool_],
    name: str,
    place: tuple[int, int],
    side: int,
) -> Mark | None:
    """The mark, if what stands out has one level: by the most of its images that lie close together."""
    values = np.sort(level[out & mine].astype(np.float32))
    reach = np.searchsorted(values, values + 2 * _MARK_SPREAD, side="right") - np.arange(len(values))
    start = int(reach.argmax())
    if reach[start] < max(_MARK_IMAGES, 0.7 * len(values)):
        return None
    low, high = values[start], values[start] + 2 * _MARK_SPREAD
    have = out & (level >= low) & (level <= high)
    inside, outside = float(have[mine].mean()), float(have[~mine].mean())
    return Mark(
        given=name,
        x=round((place[0] + 0.5) / side, 3),
        y=round((place[1] + 0.5) / side, 3),
        images=int(have[mine].sum()),
        inside=round(inside, 4),
        outside=round(outside, 4),
        rows=np.flatnonzero(have & mine)[:12].tolist(),
    )


def find_shifts(
    looks: Looks,
    points: NDArray[np.float32],
    columns: Mapping[str, list[str]],
    labels: NDArray[np.int64],
    groups: NDArray[np.str_],
    names: list[str],
    doubts: NDArray[np.float64],
) -> list[Shift]:
    """Sources, that is values of a column or blocks of time, that are suddenly unlike the rest, the largest first.

    Args:
        points: (n, components) as of `components`. doubts: (n,) bool as float, 1 where confident learning doubts the
            label; NaN where it was not judged.
    """
    # what a class looks like is taken out first, so that a source of other classes is not one of other pictures
    plain = {name: looks.facts[name] for name in OF_THE_PICTURE}
    pictures = np.column_stack([*plain.values(), points[:, :8]]).astype(np.float64)
    for label in range(len(names)):
        if (mine := labels == label).any():
            pictures[mine] -= pictures[mine].mean(axis=0)
    called = [*plain, *[f"look {number}" for number in range(1, points[:, :8].shape[1] + 1)]]
    _, group = np.unique(groups, return_inverse=True)
    classes = labels[:, None] == np.arange(len(names))
    by_group = _Means(group.reshape(-1))
    found = []
    for column, value, here in _sources(looks, columns):
        inside, outside = np.flatnonzero(here), np.flatnonzero(~here)
        for kind, values, what in (
            ("pictures", pictures, called),
            ("classes", classes.astype(np.float64), names),
            ("labels", doubts[:, None], ["doubted labels"]),
        ):
            step = by_group.compare(values, inside, outside, scaled=kind == "pictures")
            if step is None:
                continue
            effect, errors = step
            least = _STEP if kind == "pictures" else _LABEL_STEP if kind == "classes" else 0.1
            sudden = (np.abs(effect) >= least) & (np.abs(errors) >= _SURE)
            if kind == "labels":
                sudden &= effect > 0
            if sudden.any():
                top = int(np.where(sudden, np.abs(effect), 0).argmax())
                found.append(
                    Shift(
                        column=column,
                        value=value,
                        kind=kind,
                        what=what[top],
                        effect=round(float(effect[top]), 3),
                        images=len(inside),
                        rows=inside[:: max(1, len(inside) // 6)][:6].tolist(),
                        others=outside[:: max(1, len(outside) // 6)][:6].tolist(),
                    )
                )
    order = {"labels": 0, "classes": 1, "pictures": 2}
    return sorted(found, key=lambda each: (order[each.kind], -abs(each.effect)))


class _Means:
    """Means of groups, which are what is independent."""

    def __init__(self, group: NDArray[np.int64]) -> None:
        self._group = group

    def compare(
        self, values: NDArray[np.float64], inside: NDArray[np.int64], outside: NDArray[np.int64], *, scaled: bool
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Difference of the means, `scaled` by the spread between groups, and the same in standard errors."""
        here, there = self._of(values, inside), self._of(values, outside)
        if min(len(here), len(there)) < _FEWEST_GROUPS:
            return None
        step = here.mean(axis=0) - there.mean(axis=0)
        error = np.sqrt(here.var(axis=0, ddof=1) / len(here) + there.var(axis=0, ddof=1) / len(there))
        spread = there.std(axis=0, ddof=1)
        # a few groups that happen to be alike have no spread of their own: they are at least as uncertain as the others
        error = np.maximum(error, spread * np.sqrt(1 / len(here) + 1 / len(there)))
        return step / (spread + 1e-9) if scaled else step, step / (error + 1e-9)

    def _of(self, values: NDArray[np.float64], rows: NDArray[np.int64]) -> NDArray[np.float64]:
        rows = rows[np.isfinite(values[rows]).all(axis=1)]
        present, place = np.unique(self._group[rows], return_inverse=True)
        total = np.zeros((len(present), values.shape[1]))
        np.add.at(total, place.reshape(-1), values[rows])
        return total / np.bincount(place.reshape(-1), minlength=len(present))[:, None]


def _sources(looks: Looks, columns: Mapping[str, list[str]]) -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
    """Column, value and the images of it."""
    count = len(looks.digests)
    texts = {name: np.array(values) for name, values in columns.items()}
    texts |= {name: looks.facts[name] for name in ("EXIF camera", "EXIF time") if name in looks.facts}
    for name, values in texts.items():
        kinds = np.unique(values)
        if 2 <= len(kinds) <= min(_MOST_SOURCES, count // _FEWEST_GROUPS):
            for kind in kinds.tolist():
                if kind:
                    yield name, kind, values == kind
        elif len(kinds) > 2 and (times := _times(values)) is not None:
            edges = np.unique(np.nanquantile(times, np.linspace(0, 1, _BLOCKS + 1)))
            block = np.searchsorted(edges[1:-1], times, side="right")
            for number in range(len(edges) - 1):
                says = f"{say_time(edges[number])} to {say_time(edges[number + 1])}"
                yield name, says, np.isfinite(times) & (block == number)


def _times(values: NDArray[np.str_]) -> NDArray[np.float64] | None:
    try:
        times = read_times(values.tolist(), values.tolist())
    except BadInput:
        return None
    return times if np.isfinite(times).any() else None
