"""Intervals by resampling groups: images of one part are not independent, so whole groups are drawn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def group_bootstrap(
    labels: NDArray[np.integer],
    predicted: NDArray[np.integer],
    groups: NDArray[np.generic],
    classes: int,
    *,
    rng: np.random.Generator,
    draws: int = 1000,
) -> tuple[tuple[float, float], tuple[float, float]]:
    """95 % intervals of accuracy and of macro-F1 (percentile bootstrap over groups, Efron 1979; Field and Welsh 2007).

    Args:
        labels, predicted: (n,) classes, 0 to classes - 1.
        groups: (n,) names.

    >>> ones = np.ones(50, int)
    >>> group_bootstrap(ones, ones, np.arange(50), 2, rng=np.random.default_rng(0))
    ((1.0, 1.0), (1.0, 1.0))
    """
    _, group = np.unique(np.asarray(groups).astype(str), return_inverse=True)
    count = int(group.max()) + 1
    hits, true, said = (np.zeros((count, classes)) for _ in range(3))
    np.add.at(true, (group, labels), 1)
    np.add.at(said, (group, predicted), 1)
    right = predicted == labels
    np.add.at(hits, (group[right], labels[right]), 1)
    weights = rng.multinomial(count, np.full(count, 1 / count), size=draws).astype(np.float64)
    hits, true, said = weights @ hits, weights @ true, weights @ said
    accuracy = hits.sum(axis=1) / true.sum(axis=1)
    f1 = np.divide(2 * hits, true + said, out=np.zeros_like(hits), where=true + said > 0)
    macro_f1 = (f1 * (true > 0)).sum(axis=1) / (true > 0).sum(axis=1)
    return _middle(accuracy), _middle(macro_f1)


def _middle(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)
