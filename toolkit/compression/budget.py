"""Which channels go: over the whole network, those that matter least for what they cost, until a budget is met."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from device_agent.contract.errors import BadInput
from toolkit.compression.channels import Group, Widths
from toolkit.compression.scores import Scores
from toolkit.compression.surgery import Keep

Price = Callable[[Widths], float]


def floors_of(groups: Sequence[Group], share: float, align: int) -> dict[str, int]:
    """The fewest channels of each group: a share of it, rounded up to the alignment, so that no layer is closed.

    >>> floors_of([Group("a", "expansion", 96, (), (), ()), Group("b", "expansion", 4, (), (), ())], 0.1, 8)
    {'a': 16, 'b': 4}
    """
    return {group.name: min(group.width, align * -(-int(np.ceil(share * group.width)) // align)) for group in groups}


def steps(
    widths: Widths, scores: Scores, floors: Mapping[str, int], price: Price, align: int
) -> Iterator[dict[str, int]]:
    """The widths after each step of a greedy search, the first as they are. A step takes one group down to the next
    multiple of `align`, the group whose least important channels score least for what the step saves.

    Args:
        scores: of each group that may be cut, (width,).
        floors: the fewest channels of each.
        price: of a network of given widths; whatever is to be saved.
    """
    now = dict(widths)
    sums = {name: np.concatenate([[0.0], np.cumsum(np.sort(each))]) for name, each in scores.items()}
    yield dict(now)
    while True:
        before, best = price(now), None
        for name, lost in sums.items():
            narrow = align * ((now[name] - 1) // align)
            if narrow < max(floors[name], 1):
                continue
            saved = before - price(now | {name: narrow})
            full = len(lost) - 1
            rate = (lost[full - narrow] - lost[full - now[name]]) / saved if saved > 0 else np.inf
            if best is None or rate < best[0]:
                best = (rate, name, narrow)
        if best is None:
            return
        now[best[1]] = best[2]
        yield dict(now)


def spend(path: Iterator[dict[str, int]], price: Price, limit: float, what: str) -> dict[str, int]:
    """The first widths on the path whose price is within the limit.

    Raises:
        BadInput: none is; the sentence names the least that can be reached.
    """
    least = np.inf
    for widths in path:
        cost = price(widths)
        if cost <= limit:
            return widths
        least = min(least, cost)
    raise BadInput(
        f"a budget of {limit:,.0f} {what} cannot be met: {least:,.0f} is the least; allow more, more --groups or a "
        "lower --floor"
    )


def best_channels(scores: Scores, widths: Widths) -> Keep:
    """The channels of each scored group that score highest, as many as its width, in ascending order.

    >>> best_channels({"a": np.array([3.0, 1.0, 2.0])}, {"a": 2})["a"].tolist()
    [0, 2]
    """
    ranked = {name: np.argsort(-each, kind="stable") for name, each in scores.items()}
    return {name: np.sort(order[: widths[name]]).astype(np.int64) for name, order in ranked.items()}
