"""Features drawn between neighbours of a rare class: SMOTE for the linear probe (Chawla et al. 2002)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from device_agent.contract.optional import require

NEIGHBOURS = 5
MOST_TIMES = 10  # as many drawn ones as a class may get for each of its own: what is between them adds little more
Features = NDArray[np.floating]
Labels = NDArray[np.int64]


def oversample(features: Features, labels: Labels, groups: NDArray[np.str_], *, seed: int) -> tuple[Features, Labels]:
    """The features (n, d) and labels (n,), and after them what was drawn: every class up to as many as the largest has,
    or up to ten times its own.

    Images of one part are nearly alike, and what lies between two of them says nothing new: where a class has parts
    enough, the neighbours are means of parts, one of each, and else its images. Distances are taken in standardised
    features; the number of neighbours is 5, or one less than there are.

    >>> both = oversample(np.arange(8.0)[:, None], np.array([0] * 5 + [1] * 3), np.arange(8).astype(str), seed=0)
    >>> np.bincount(both[1]).tolist()
    [5, 5]

    Raises:
        BadInput: a class with a single image: nothing lies between it and itself.
    """
    counts = np.bincount(labels)
    single = np.flatnonzero(counts == 1)
    if len(single):
        raise BadInput(
            f"smote needs two images or more of every class, class {single[0]} (counted from 0) has one: "
            "there is nothing between it and itself; add images, or leave smote out"
        )
    spread = features.std(axis=0, dtype=np.float64)
    spread = np.where(spread > 0, spread, 1.0)
    drawn = [
        _drawn(features[labels == label], groups[labels == label], goal - count, spread, seed + label)
        for label, count in enumerate(counts)
        if 0 < count < (goal := min(int(counts.max()), MOST_TIMES * int(count)))
    ]
    added = np.repeat(np.flatnonzero((counts > 0) & (counts < counts.max())), [len(each) for each in drawn])
    return np.concatenate([features, *drawn]).astype(features.dtype), np.concatenate([labels, added])


def _drawn(
    features: Features, groups: NDArray[np.str_], wanted: int, spread: NDArray[np.float64], seed: int
) -> Features:
    """`wanted` features between those of one class."""
    over_sampling = require("imblearn.over_sampling", extra="toolkit")
    _, group = np.unique(groups, return_inverse=True)
    parts = np.zeros((group.max() + 1, features.shape[1]))
    np.add.at(parts, group, features)
    parts /= np.bincount(group)[:, None]
    points = (parts if len(parts) > NEIGHBOURS else features) / spread
    # SMOTE balances two classes: the other one is as many points, far away, as are wanted
    other = np.full((len(points) + wanted, points.shape[1]), 1e6)
    sampler = over_sampling.SMOTE(k_neighbors=min(NEIGHBOURS, len(points) - 1), random_state=seed)
    answers = np.repeat([0, 1], [len(other), len(points)])
    made = sampler.fit_resample(np.concatenate([other, points]), answers)[0]
    return np.asarray(made[len(answers) :] * spread)
