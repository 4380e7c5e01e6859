"""Training, validation and test images: by group, so that no part is on two sides, and with every class on each."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from toolkit.data.images import Dataset
from toolkit.data.listing import SPLITS

Labels = NDArray[np.integer]
Groups = NDArray[np.str_]
SHARES = (0.7, 0.15, 0.15)
_MANY = 4000  # groups: above, each is dealt to the next fold within its rarest class, which takes no search


def split(dataset: Dataset, seed: int, shares: tuple[float, float, float] = SHARES) -> NDArray[np.str_]:
    """ "train", "val" or "test" of each image: (n,) str. The manifest's own split is taken where there is one.

    Otherwise groups are dealt out at random so that each class comes near `shares`; the same seed gives the same split.

    Raises:
        BadInput: a class with fewer than three groups or missing in a split; a group, or images of equal pixels, that
            stand in two splits.
    """
    if dataset.splits is not None:
        check_split(dataset, dataset.splits)
        return dataset.splits
    members = dataset.members()
    for label, name in enumerate(dataset.names):
        groups = len(np.unique(dataset.groups[members[:, label]]))
        if groups < len(SPLITS):
            raise BadInput(
                f"{dataset.dir}: a class has too few groups for the three splits: {name!r} has {groups} "
                f"group{'s' * (groups != 1)}; photographs of one part are one group"
            )
    _, val, test = np.asarray(shares) / sum(shares)
    out = np.full(len(dataset), "train", dtype="<U5")
    out[_share(dataset.labels, dataset.groups, test, seed)] = "test"
    rest = np.flatnonzero(out == "train")
    out[rest[_share(dataset.labels[rest], dataset.groups[rest], val / (1 - test), seed)]] = "val"
    _fill(dataset, members, out)
    check_split(dataset, out)
    return out


def folds(labels: NDArray[np.integer], groups: Groups, k: int, seed: int) -> NDArray[np.int64]:
    """Fold 0 to k - 1 of each image: (n,) int64, stratified by class, no group in two folds.

    Raises:
        BadInput: more folds than groups, or a class whose images are all in one group.
    """
    most = _most_folds(labels, groups)
    if not 2 <= k <= most:
        raise BadInput(
            f"folds must be 2 to {most} for {len(np.unique(groups))} groups of {len(labels)} images, got {k}"
        )
    for label in np.unique(labels):
        if len(np.unique(groups[labels == label])) < 2:
            raise BadInput(f"all images of class {label} are one group; folds need two groups of each class")
    return _deal(labels, groups, k, seed)


def _most_folds(labels: Labels, groups: Groups) -> int:
    return min(len(np.unique(groups)), int(np.bincount(labels).max()))


def _deal(labels: Labels, groups: Groups, k: int, seed: int) -> NDArray[np.int64]:
    from sklearn.model_selection import StratifiedGroupKFold

    names, group_of = np.unique(groups, return_inverse=True)
    if len(names) > _MANY:
        return _deal_many(labels, group_of, len(names), k, seed)[group_of]
    out = np.empty(len(labels), np.int64)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        for fold, (_, rows) in enumerate(
            StratifiedGroupKFold(k, shuffle=True, random_state=seed).split(labels, labels, groups)
        ):
            out[rows] = fold
    return out


def _deal_many(labels: Labels, group_of: NDArray[np.intp], count: int, k: int, seed: int) -> NDArray[np.int64]:
    """The fold of each of `count` groups: like cards, sorted by rarest class and size, in random order within these."""
    rarity = np.argsort(np.argsort(np.bincount(labels), kind="stable"))
    rarest = np.full(count, len(rarity))
    np.minimum.at(rarest, group_of, rarity[labels])
    order = np.lexsort((np.random.default_rng(seed).random(count), -np.bincount(group_of), rarest))
    fold = np.empty(count, np.int64)
    fold[order] = np.arange(count) % k
    return fold


def _share(labels: Labels, groups: Groups, share: float, seed: int) -> NDArray[np.int64]:
    """Rows of about `share` of the images of each class, in whole groups: of as many folds as fit, the one that comes
    nearest. Large groups are dealt first, so a fixed fold would get the largest of all whatever the seed."""
    k = min(max(2, round(1 / share)), _most_folds(labels, groups))
    fold, classes = _deal(labels, groups, k, seed), int(labels.max()) + 1
    counts = np.bincount(fold * classes + labels, minlength=k * classes).reshape(k, classes)
    off = np.abs(counts / np.maximum(counts.sum(axis=0), 1) - share).sum(axis=1)
    order = np.random.default_rng(seed).permutation(k)
    return np.flatnonzero(fold == order[off[order].argmin()])


def _fill(dataset: Dataset, members: NDArray[np.bool_], split: NDArray[np.str_]) -> None:
    """Move a group to each split that lacks a class, out of one that keeps all its classes without it."""
    for label in range(len(dataset.names)):
        for name in SPLITS:
            if not members[split == name, label].any():
                _move(dataset, members, split, label, name)


def _move(dataset: Dataset, members: NDArray[np.bool_], split: NDArray[np.str_], label: int, to: str) -> None:
    for source in SPLITS:
        inside = split == source
        for group in np.unique(dataset.groups[inside & members[:, label]]):
            leaving = inside & (dataset.groups == group)
            if (members[leaving].any(axis=0) <= members[inside & ~leaving].any(axis=0)).all():
                split[leaving] = to
                return


def check_split(dataset: Dataset, split: NDArray[np.str_]) -> None:
    """Refuse a split (n,) of names that measures something else than it says.

    Raises:
        BadInput: a class has no image in a split; a stated group, or images of equal pixels, stand in two.
    """
    members = dataset.members()
    for name in SPLITS:
        there = members[split == name].any(axis=0)
        if not there.all():
            absent = dataset.names[int(there.argmin())]
            raise BadInput(f"{dataset.dir}: class {absent!r} has no image in the {name} split")
    stated = dataset.groups if dataset.stated is None else dataset.stated
    if divided := _divided(stated.tolist(), split):
        one, other = divided[0]
        sides = f"{split[one]} and {split[other]}"
        count = len({str(stated[first]) for first, _ in divided})
        more = "" if count == 1 else f" ({count} groups are divided)"
        raise BadInput(f"{dataset.dir}: group {str(stated[one])!r} is in both {sides}; it must be on one side{more}")
    if divided := _divided(dataset.pixels or [], split):
        one, other = divided[0]
        raise BadInput(
            f"{dataset.dir}: {dataset.files[one]} in {split[one]} and {dataset.files[other]} in {split[other]} have "
            "equal pixels; they must be on one side"
        )


def _divided(keys: Sequence[Hashable], split: NDArray[np.str_]) -> list[tuple[int, int]]:
    """For each row that stands on another side of the split than the first row of its key: that row, and itself."""
    first: dict[Hashable, int] = {}
    sides = split.tolist()
    return [(at, row) for row, key in enumerate(keys) if sides[at := first.setdefault(key, row)] != sides[row]]
