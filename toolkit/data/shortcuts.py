"""Shortcuts: what the file, the light or the manifest says about a picture, and how well that alone tells its class.

A model learns whatever tells the classes apart in the training set. Where all pictures of a defect come from one
camera, or in one file format, it learns the camera; on the line it then knows nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from toolkit.data.looks import OF_THE_PICTURE, Looks
from toolkit.data.times import read_times

_FOLDS, _SHUFFLES, _MOST_ROWS = 5, 40, 20_000
_BINS = 16
_MOST_VALUES = 200  # of a column of texts; with more it names things and is no condition of the picture
_LEAST = 0.15  # of the way from chance to certainty
_LEAST_OF_THE_PICTURE = 0.5  # a defect may change these itself
_TIME_COLUMNS = ("time", "date", "timestamp", "captured")


class Shortcut(msgspec.Struct, frozen=True, kw_only=True):
    """How well one fact alone tells the class, or one class from the rest: balanced accuracy on held-out groups.

    `chance` is what shuffled groups reach at most, `effect` the share of the way from 0.5 (one class), or 1 / classes,
    to 1; `target` is the class that it gives away, or "" for all together; `value` the value that stands for it.
    `leaks` where the effect is large and above chance.
    """

    fact: str
    source: str
    target: str
    balanced_accuracy: float
    chance: float
    effect: float
    leaks: bool
    value: str
    sentence: str
    rows: list[int]


def find_shortcuts(
    looks: Looks,
    columns: Mapping[str, list[str]],
    labels: NDArray[np.int64],
    groups: NDArray[np.str_],
    names: list[str],
    *,
    seed: int = 0,
) -> list[Shortcut]:
    """Every fact that varies, the strongest first.

    Args:
        looks: of n images; their facts are tried, and the `columns` of the manifest.
        labels: (n,) classes; groups: (n,) what is never on both sides of a fold.
    """
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.permutation(len(labels))[:_MOST_ROWS])
    facts = {name: ("picture" if name in OF_THE_PICTURE else "file", values) for name, values in looks.facts.items()}
    facts |= {f"column {name}": ("column", np.array(values)) for name, values in columns.items()}
    found = []
    for name, (source, values) in facts.items():
        binned = _bins(values[rows], timed=any(word in name.lower() for word in _TIME_COLUMNS))
        if binned is None:
            continue
        codes, texts = binned
        there = codes >= 0
        if there.sum() < 20 or len(np.unique(labels[rows[there]])) < 2 or len(np.unique(codes[there])) < 2:
            continue
        found.append(
            _judge(name, source, codes[there], texts, labels[rows[there]], groups[rows[there]], names, rows[there], rng)
        )
    return sorted(found, key=lambda each: (not each.leaks, -each.effect))


def _bins(values: NDArray[Any], *, timed: bool) -> tuple[NDArray[np.int64], list[str]] | None:
    """The bin of each value, -1 for none, and what each bin is called; None where the values are names."""
    if values.dtype.kind == "U":
        numbers = _times(values) if timed else _numbers(values)
        if numbers is None or len(np.unique(values)) <= _BINS:
            texts, codes = np.unique(values, return_inverse=True)
            if len(texts) > min(_MOST_VALUES, max(2, len(values) // 2)):
                return None
            if texts[0] == "" and len(texts) == 1:
                return None
            return codes.reshape(-1).astype(np.int64), [str(text) or "nothing" for text in texts]
        values = numbers
    numbers = np.asarray(values, np.float64)
    there = np.isfinite(numbers)
    if not there.any():
        return None
    edges = np.unique(np.quantile(numbers[there], np.linspace(0, 1, _BINS + 1)[1:-1]))
    codes = np.where(there, np.searchsorted(edges, np.where(there, numbers, 0), side="right"), -1)
    inner = [f"{edge:.4g}" for edge in edges]
    ranges = [f"{low} to {high}" for low, high in itertools.pairwise(inner)]
    return codes.astype(np.int64), [f"below {inner[0]}", *ranges, f"{inner[-1]} or more"]


def _times(values: NDArray[np.str_]) -> NDArray[np.float64] | None:
    try:
        return read_times(values.tolist(), values.tolist())
    except BadInput:
        return _numbers(values)


def _numbers(values: NDArray[np.str_]) -> NDArray[np.float64] | None:
    try:
        return np.array([float(text) if text else np.nan for text in values.tolist()])
    except ValueError:
        return None


def _judge(
    name: str,
    source: str,
    codes: NDArray[np.int64],
    texts: list[str],
    labels: NDArray[np.int64],
    groups: NDArray[np.str_],
    names: list[str],
    rows: NDArray[np.int64],
    rng: np.random.Generator,
) -> Shortcut:
    present, labels = np.unique(labels, return_inverse=True)
    _, group = np.unique(groups, return_inverse=True)
    group = group.reshape(-1)
    fold = rng.permutation(int(group.max()) + 1)[group] % _FOLDS
    kinds = len(present)
    together, each = _accuracies(codes, labels, fold, len(texts), kinds)
    shuffled = [_accuracies(codes, _shuffle(labels, group, rng), fold, len(texts), kinds) for _ in range(_SHUFFLES)]
    # the best of all classes is compared with the best of all classes by chance
    scores = {"": (together, [all_ for all_, _ in shuffled], 1 / kinds)}
    best = int(each.argmax())
    scores[names[present[best]]] = (float(each[best]), [float(one.max()) for _, one in shuffled], 0.5)

    def effect(target: str) -> float:
        reached, _, floor = scores[target]
        return (reached - floor) / (1 - floor)

    target = max(scores, key=effect) if kinds > 2 else names[present[best]]
    reached, by_chance, _ = scores[target]
    chance = float(np.mean(by_chance) + 4 * np.std(by_chance))
    least = _LEAST_OF_THE_PICTURE if source == "picture" else _LEAST
    leaks = reached > chance and effect(target) >= least
    value = _telling(codes, labels == best)
    share, elsewhere = ((codes[labels == best] == value).mean(), (codes[labels != best] == value).mean())
    sentence = (
        f"{name} alone tells {f'{target!r} from the rest' if target else 'the classes apart'} with a balanced accuracy "
        f"of {reached:.0%} (chance up to {max(chance, 0.5 if target else 1 / kinds):.0%}); "
        f"{texts[value]}: {share:.0%} of {names[present[best]]!r}, {elsewhere:.0%} of the others"
    )
    shown = rows[np.flatnonzero((codes == value) & (labels == best))[:6]].tolist()
    shown += rows[np.flatnonzero((codes != value) & (labels != best))[:6]].tolist()
    return Shortcut(
        fact=name,
        source=source,
        target=target,
        balanced_accuracy=round(reached, 4),
        chance=round(chance, 4),
        effect=round(effect(target), 4),
        leaks=bool(leaks),
        value=texts[value],
        sentence=sentence,
        rows=[int(row) for row in shown],
    )


def _telling(codes: NDArray[np.int64], mine: NDArray[np.bool_]) -> int:
    """The bin in which a class is most over-represented."""
    size = int(codes.max()) + 1
    inside, outside = np.bincount(codes[mine], minlength=size), np.bincount(codes[~mine], minlength=size)
    return int((inside / max(mine.sum(), 1) - outside / max((~mine).sum(), 1)).argmax())


def _shuffle(labels: NDArray[np.int64], group: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Labels in which each group takes those of another: what belongs to a part stays together, as in the data."""
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(int(group.max()) + 2))
    out = np.empty_like(labels)
    for one, other in enumerate(rng.permutation(len(starts) - 1)):
        rows, given = order[starts[one] : starts[one + 1]], order[starts[other] : starts[other + 1]]
        out[rows] = labels[np.resize(given, len(rows))]
    return out


def _accuracies(
    codes: NDArray[np.int64], labels: NDArray[np.int64], fold: NDArray[np.int64], bins: int, kinds: int
) -> tuple[float, NDArray[np.float64]]:
    """Balanced accuracy over all classes, and of each class against the rest, from a table of bins by classes."""
    counts = np.bincount((fold * bins + codes) * kinds + labels, minlength=_FOLDS * bins * kinds).reshape(
        _FOLDS, bins, kinds
    )
    known = counts.sum(axis=0, keepdims=True) - counts  # of the other folds
    rates = (known + 0.5) / (known.sum(axis=1, keepdims=True) + 0.5 * bins)
    rest = known.sum(axis=2, keepdims=True) - known
    rest_rates = (rest + 0.5) / (rest.sum(axis=1, keepdims=True) + 0.5 * bins)
    totals = np.maximum(counts.sum(axis=(0, 1)), 1)
    hits = np.take_along_axis(counts, rates.argmax(axis=2)[..., None], axis=2)[..., 0]
    chosen = rates.argmax(axis=2)
    together = float(sum((hits[chosen == kind].sum() / totals[kind]) for kind in range(kinds)) / kinds)
    yes = rates > rest_rates
    others = counts.sum(axis=2, keepdims=True) - counts
    found = (counts * yes).sum(axis=(0, 1)) / totals
    refused = (others * ~yes).sum(axis=(0, 1)) / np.maximum(others.sum(axis=(0, 1)), 1)
    return together, (found + refused) / 2
