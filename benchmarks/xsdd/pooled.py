"""Answers of several folds, pooled, so that every image has one answer by a model that never saw its group."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from toolkit.evaluation.calibration import error, fit_temperature
from toolkit.evaluation.intervals import group_bootstrap
from toolkit.evaluation.metrics import macro_f1, softmax
from toolkit.evaluation.paired import Difference, differences

Labels = NDArray[np.int64]
Groups = NDArray[np.str_]
Interval = tuple[float, float]


class Fold(NamedTuple):
    """One fold: true classes (n,), groups (n,), logits (n, classes) of the model that was trained on the others, and
    the temperature fitted on that training's own validation images."""

    labels: Labels
    groups: Groups
    logits: NDArray[np.float32]
    temperature: float

    @classmethod
    def of(cls, labels: Labels, groups: Groups, logits: NDArray[np.float32], val: NDArray, val_labels: Labels) -> Fold:
        """With the temperature of the validation logits `val` (m, classes)."""
        return cls(labels, groups, logits, fit_temperature(val, val_labels))


class Pooled(NamedTuple):
    """The images of all folds: true classes (n,), groups (n,), what was said (n,), probabilities (n, classes)."""

    labels: Labels
    groups: Groups
    said: Labels
    probabilities: NDArray[np.float64]

    @property
    def macro_f1(self) -> float:
        """Over all images together, in [0, 1]."""
        return macro_f1(self.labels, self.said)

    @property
    def ece(self) -> float:
        """Over 15 bins of equally many answers."""
        return error(self.probabilities, self.labels)

    def intervals(self, seed: int) -> tuple[Interval, Interval]:
        """95 %, over groups: of accuracy and of macro-F1."""
        classes = self.probabilities.shape[1]
        return group_bootstrap(self.labels, self.said, self.groups, classes, rng=np.random.default_rng(seed))


def pool(folds: list[Fold]) -> Pooled:
    """All folds as one."""
    return Pooled(
        np.concatenate([fold.labels for fold in folds]),
        np.concatenate([fold.groups for fold in folds]),
        np.concatenate([fold.logits.argmax(axis=1) for fold in folds]),
        np.concatenate([softmax(fold.logits.astype(np.float64) / fold.temperature) for fold in folds]),
    )


def gain(before: Pooled, after: Pooled, seed: int) -> Difference:
    """Macro-F1 of `after` less that of `before` on the same images, groups drawn with both answers."""
    classes = before.probabilities.shape[1]
    one_hot = np.eye(classes, dtype=bool)
    names = [str(place) for place in range(classes)]
    found = differences(
        one_hot[before.labels], one_hot[before.said], one_hot[after.said], before.groups, names, seed=seed
    )
    return found["macro-f1"]


def scores(pooled: Pooled, seed: int) -> str:
    """Cells of a table: images, accuracy and macro-F1 in %, each with its interval."""
    accuracy, score = pooled.intervals(seed)
    right = 100 * float(np.mean(pooled.said == pooled.labels))
    return (
        f"{len(pooled.labels)} | {right:.2f} ({_percent(accuracy)}) | {100 * pooled.macro_f1:.2f} ({_percent(score)})"
    )


def _percent(interval: tuple[float, float]) -> str:
    return f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f}"
