"""Which images an epoch shows, and in which order."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput

Sampling = Literal["natural", "balanced", "oversample", "undersample"]
Rows = NDArray[np.int64]


def epoch_length(labels: NDArray[np.integer], how: Sampling) -> int:
    """Images in one epoch: all of them, with "balanced" as many; with "oversample" every class as often as the largest,
    with "undersample" as the smallest.

    >>> [epoch_length(np.array([0, 0, 0, 1]), how) for how in ("natural", "balanced", "oversample", "undersample")]
    [4, 4, 6, 2]
    """
    counts = np.unique(labels, return_counts=True)[1]
    lengths = {"oversample": len(counts) * int(counts.max()), "undersample": len(counts) * int(counts.min())}
    return lengths.get(how, len(labels))


def epoch_order(
    labels: NDArray[np.integer],
    how: Sampling,
    rng: np.random.Generator,
    *,
    size: int,
    groups: NDArray[np.str_] | None = None,
) -> Rows:
    """`size` rows of labels (n,) int64 to be shown one after the other; it depends on the arguments and `rng` alone.

    "natural" shows every image once, and then again in another order. "balanced" and "oversample" show every class as
    often as any other (within one), the images of a class in turn. "undersample" keeps of every class as many images as
    the smallest has, others at each call; of classes that lose images, each group (part) gives one before any gives
    two, so that what goes first are further images of parts that are still shown.

    >>> order = epoch_order(np.array([0, 0, 0, 1]), "balanced", np.random.default_rng(0), size=8)
    >>> np.bincount(np.array([0, 0, 0, 1])[order]).tolist()
    [4, 4]

    Raises:
        BadInput: no images, an unknown way.
    """
    if not len(labels):
        raise BadInput("an epoch needs at least one image")
    if how == "natural":
        return _in_turn(np.arange(len(labels)), rng, size)
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    if how in ("balanced", "oversample"):
        first = rng.permutation(len(members))  # who gets one more where size does not divide
        quotas = np.full(len(members), size // len(members))
        quotas[first[: size % len(members)]] += 1
        drawn = [_in_turn(rows, rng, quota) for rows, quota in zip(members, quotas, strict=True)]
        return rng.permutation(np.concatenate(drawn))
    if how == "undersample":
        least = min(map(len, members))
        return _in_turn(np.concatenate([_thinned(rows, least, groups, rng) for rows in members]), rng, size)
    raise BadInput(f"no sampling {how!r}; known are natural, balanced, oversample, undersample")


def _in_turn(rows: NDArray[np.integer], rng: np.random.Generator, size: int) -> Rows:
    """`size` of the rows, each once before any comes twice."""
    rounds = [rng.permutation(rows) for _ in range(-(-size // len(rows)))]
    return np.concatenate([np.empty(0, np.int64), *rounds])[:size].astype(np.int64)


def _thinned(
    rows: NDArray[np.integer], keep: int, groups: NDArray[np.str_] | None, rng: np.random.Generator
) -> NDArray[np.integer]:
    """`keep` of the rows, of as many groups as can be."""
    rows = rng.permutation(rows)
    if groups is None or keep >= len(rows):
        return rows[:keep]
    _, group = np.unique(np.asarray(groups)[rows], return_inverse=True)
    by_group = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(group[by_group]) > 0])
    turn = np.empty(len(rows), np.int64)  # how many of its group come before each image
    turn[by_group] = np.arange(len(rows)) - np.repeat(starts, np.diff(np.r_[starts, len(rows)]))
    return rows[np.argsort(turn, kind="stable")[:keep]]
