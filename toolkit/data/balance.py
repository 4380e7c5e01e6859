"""What the rarest class allows to be said: how wide an interval its few parts leave."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from toolkit.data.images import Dataset


class Rarest(msgspec.Struct, frozen=True, kw_only=True):
    """The class of the fewest groups, its groups in each split, and the 95 % interval that its test groups leave if all
    of them are recognised: a recall of 100 % is then known to be above `recall_from`; predicted, not measured."""

    name: str
    images: int
    groups: int
    split_groups: dict[str, int]
    recall_from: float
    sentence: str


def recall_interval(hits: int, parts: int, confidence: float = 0.95) -> tuple[float, float]:
    """The exact interval of a share (Clopper and Pearson 1934).

    >>> [round(end, 3) for end in recall_interval(9, 10)]
    [0.555, 0.997]
    >>> recall_interval(0, 0)
    (0.0, 1.0)
    """
    from scipy.stats import beta

    tail = (1 - confidence) / 2
    low = float(beta.ppf(tail, hits, parts - hits + 1)) if hits else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, parts - hits)) if hits < parts else 1.0
    return low, high


def rarest_of(dataset: Dataset, sides: NDArray[np.str_]) -> Rarest:
    """The class of the fewest groups, and what its test split allows."""
    members = dataset.members()
    groups = [len(np.unique(dataset.groups[mine])) for mine in members.T]
    label = int(np.argmin(groups))
    mine = members[:, label]
    parts = {side: len(np.unique(dataset.groups[mine & (sides == side)])) for side in ("train", "val", "test")}
    low, _ = recall_interval(parts["test"], parts["test"])
    name = dataset.names[label]
    return Rarest(
        name=name,
        images=int(mine.sum()),
        groups=groups[label],
        split_groups=parts,
        recall_from=round(low, 4),
        sentence=(
            f"rarest class {name!r}: {parts['test']} of its {groups[label]} groups are for the test; even if all are "
            f"recognised, its recall is only known to be above {low:.0%} (95 % interval)"
        ),
    )
