"""Training on what came first, validation and test on what came later, with every group on one side."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from toolkit.data.images import Dataset
from toolkit.data.listing import SPLITS
from toolkit.data.splits import SHARES
from toolkit.data.times import read_times, say_time


class Period(msgspec.Struct, frozen=True, kw_only=True):
    """When the images of one side were taken: first and last, in UTC where the times say their zone."""

    side: str
    first: str
    last: str
    images: int
    groups: int


def split_by_time(
    dataset: Dataset, shares: tuple[float, float, float] = SHARES, column: str = "time"
) -> tuple[NDArray[np.str_], list[Period]]:
    """ "train", "val" or "test" of each image (n,), and the period of each side.

    A group stands where its last image does, so that nothing in train is later than the cut; groups that end at the
    same time stand together. The cuts are those that come nearest to `shares`.

    Raises:
        BadInput: no such column, an image without a time, times with and without a zone, fewer than three different
            ends of groups, or a class that would be missing from a side.
    """
    times = image_times(dataset, column)
    _, group_of = np.unique(dataset.groups, return_inverse=True)
    ends = np.full(int(group_of.max()) + 1, -np.inf)
    np.maximum.at(ends, group_of, times)
    moments, moment_of = np.unique(ends[group_of], return_inverse=True)
    if len(moments) < len(SPLITS):
        raise BadInput(
            f"{dataset.source}: the groups end at {len(moments)} different time{'s' * (len(moments) != 1)} of column "
            f"{column!r}; an order of train, val and test needs three"
        )
    filled = np.cumsum(np.bincount(moment_of)) / len(dataset)
    train, val, _ = np.asarray(shares) / sum(shares)
    first = int(np.abs(filled[:-2] - train).argmin())
    second = first + 1 + int(np.abs(filled[first + 1 : -1] - train - val).argmin())
    out = np.array(SPLITS)[np.searchsorted([first, second], moment_of)]
    _check_classes(dataset, out, column)
    return out, [_period(name, times[out == name], group_of[out == name]) for name in SPLITS]


def image_times(dataset: Dataset, column: str) -> NDArray[np.float64]:
    """When each image was taken, by a column of the manifest: (n,) float64, seconds since 1970.

    Raises:
        BadInput: no such column, an image without a time, times with and without a zone.
    """
    if column not in dataset.columns:
        has = ", ".join(dataset.columns) or "no further column"
        raise BadInput(f"{dataset.source}: no column {column!r} of times; it has {has}")
    times = read_times(dataset.columns[column], dataset.files, column)
    if np.isnan(times).any():
        file, count = dataset.files[int(np.isnan(times).argmax())], int(np.isnan(times).sum())
        raise BadInput(f"{dataset.source}: {count} of {len(dataset)} images have no {column}, first {file}")
    return times


def _check_classes(dataset: Dataset, split: NDArray[np.str_], column: str) -> None:
    members, missing = dataset.members(), []
    for name in SPLITS:
        there = members[split == name].any(axis=0)
        if not there.all():
            classes = ", ".join(repr(each) for each, has in zip(dataset.names, there, strict=True) if not has)
            missing.append(f"{name} would have no image of {classes}")
    if missing:
        raise BadInput(
            f"{dataset.source}: ordered by {column}, {'; '.join(missing)}; take other --shares, images of a longer "
            "time, or a split by group"
        )


def _period(name: str, times: NDArray[np.float64], groups: NDArray[np.intp]) -> Period:
    return Period(
        side=name,
        first=say_time(float(times.min())),
        last=say_time(float(times.max())),
        images=len(times),
        groups=len(np.unique(groups)),
    )
