"""Two models on the same images: who is right where the other is not, and by how much a figure differs."""

from __future__ import annotations

import math

import msgspec
import numpy as np
from numpy.typing import NDArray

from converters.macro_f1 import macro_f1
from toolkit.evaluation.intervals import (
    PRIOR,
    TAIL,
    Counts,
    Statistic,
    group_counts,
    index_groups,
    mean_recall,
    typical_size,
)

DRAWS = 2000
EXACT = 14  # groups whose signs are all tried
Bools = NDArray[np.bool_]


class Difference(msgspec.Struct, frozen=True):
    """A figure of A and of B on the same images, and B less A with its 95 % interval over groups."""

    a: float
    b: float
    value: float
    low: float
    high: float


class McNemar(msgspec.Struct, frozen=True, kw_only=True):
    """Images that only A or only B has right. `p` is the exact test (McNemar 1947, binomial), which takes images as
    independent; `p_groups` flips the sign of whole groups and is the one to go by."""

    only_a: int
    only_b: int
    p: float
    p_groups: float


def mcnemar(right_a: Bools, right_b: Bools, groups: NDArray[np.generic], *, seed: int = 0) -> McNemar:
    """The test that both models are right equally often.

    >>> a, b = np.array([True] * 9 + [False]), np.array([False] * 9 + [True])
    >>> found = mcnemar(a, b, np.arange(10))
    >>> found.only_a, found.only_b, round(found.p, 4), round(found.p_groups, 4)
    (9, 1, 0.0215, 0.0215)
    """
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    changed = only_a + only_b
    tail = sum(math.comb(changed, k) for k in range(min(only_a, only_b) + 1))
    p = min(1.0, 2 * tail / 2**changed)
    return McNemar(only_a=only_a, only_b=only_b, p=p, p_groups=_sign_test(right_a, right_b, groups, seed))


def _sign_test(right_a: Bools, right_b: Bools, groups: NDArray[np.generic], seed: int) -> float:
    """p of the sum of what groups gained, under random signs: all of them for up to 14 groups, else 10,000."""
    gained = np.bincount(index_groups(groups), right_b.astype(float) - right_a)
    gained = gained[gained != 0]
    if not len(gained):
        return 1.0
    seen = abs(gained.sum()) - 1e-9
    if len(gained) <= EXACT:
        signs = 1 - 2 * ((np.arange(2 ** len(gained))[:, None] >> np.arange(len(gained))) & 1)
        return float((np.abs(signs @ gained) >= seen).mean())
    rng, reached, draws = np.random.default_rng(seed), 0, 10_000
    for _ in range(draws // 1000):
        signs = rng.choice([-1, 1], (1000, len(gained)))
        reached += int((np.abs(signs @ gained) >= seen).sum())
    return (1 + reached) / (1 + draws)


def differences(
    truth: Bools, said_a: Bools, said_b: Bools, groups: NDArray[np.generic], names: list[str], *, seed: int = 0
) -> dict[str, Difference]:
    """Accuracy, macro-F1, balanced accuracy and the recall of each class of both models, and how much B gains. Where
    images have several marks, their share that was found ("mark-recall") stands in the place of accuracy.

    Groups are drawn (Bayesian bootstrap), each with what both models said to it. Half an independent image that only A
    has right and half a one that only B has are the prior, so that few flips do not pass for certainty.

    Args:
        truth, said_a, said_b: (n, classes).
    """
    counts = [
        group_counts(np.stack([truth & said, truth, said]).astype(np.float64), groups) for said in (said_a, said_b)
    ]
    rng = np.random.default_rng(seed)
    weights = rng.standard_gamma(1.0, (DRAWS, counts[0].shape[1]))
    effect = typical_size(counts[0][1].sum(axis=1))
    there = np.asarray(truth.any(axis=0))
    shares = np.where(there, PRIOR / there.sum(), 1e-9)
    flips = effect * rng.standard_gamma(shares, (2, DRAWS, len(there))) * there
    drawn = [
        weights @ each + np.stack([flips[own], flips.sum(axis=0), flips.sum(axis=0)]) for own, each in enumerate(counts)
    ]
    single = all((each.sum(axis=1) == 1).all() for each in (truth, said_a, said_b))
    statistics: dict[str, Statistic] = {
        "accuracy" if single else "mark-recall": _micro,
        "macro-f1": macro_f1,
        "balanced-accuracy": mean_recall,
    }
    statistics |= {f"recall.{name}": _recall(at) for at, name in enumerate(names) if there[at]}
    return {name: _difference(of, counts, drawn) for name, of in statistics.items()}


def _difference(of: Statistic, counts: list[Counts], drawn: list[Counts]) -> Difference:
    a, b = (float(of(each.sum(axis=1))) for each in counts)
    gaps = np.asarray(of(drawn[1]) - of(drawn[0]))
    low, high = (b - a) + np.quantile(gaps - gaps.mean(), [TAIL, 1 - TAIL])
    return Difference(a, b, b - a, max(float(low), -1.0), min(float(high), 1.0))


def _micro(counts: Counts) -> NDArray[np.float64]:
    right, true, _ = counts
    return np.asarray(right.sum(axis=-1) / true.sum(axis=-1))


def _recall(place: int) -> Statistic:
    def of(counts: Counts) -> NDArray[np.float64]:
        right, true, _ = counts
        return np.asarray(right[..., place] / np.maximum(true[..., place], 1e-12))

    return of
