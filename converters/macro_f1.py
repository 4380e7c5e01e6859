"""Macro-F1 from counts, of one set of answers or of many at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def count(labels: NDArray[np.integer], predicted: NDArray[np.integer], classes: int) -> NDArray[np.float64]:
    """What each answer counts for: (3, n, classes), 1 where it is right, is truly of that class, was called that."""
    true, said = np.eye(classes)[labels], np.eye(classes)[predicted]
    return np.stack([true * said, true, said])


def macro_f1(counts: NDArray[np.floating]) -> NDArray[np.float64]:
    """Mean F1 (...) of the classes that occur, from counts (3, ..., classes): right, true, called.

    An answer that is of no class that occurs still counts against the true one.

    >>> answers = count(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 0]), 3)
    >>> round(float(macro_f1(answers.sum(axis=1))), 3)
    0.733
    """
    right, true, said = counts
    there = true > 0
    f1 = 2 * right / np.where(there, true + said, 1)
    return np.asarray((f1 * there).sum(axis=-1) / there.sum(axis=-1))
