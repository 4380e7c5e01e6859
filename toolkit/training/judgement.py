"""What answers are worth in each task: targets for the loss, decisions, and the figures that judge a training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from toolkit.evaluation.figures import Role, Task
from toolkit.evaluation.metrics import balanced_loss, macro_f1

Logits = NDArray[np.floating]
Marks = NDArray[np.bool_]
TEMPERATURES = np.geomspace(0.1, 10, 41)


class Figures(NamedTuple):
    """All but the losses in [0, 1]; `loss` in nats, balanced over the classes, `calibrated_loss` at the temperature
    that suits it best. The `defect` figures are None where there is no good or no defect class."""

    loss: float
    calibrated_loss: float
    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    defect_recall: float | None
    defect_balanced_accuracy: float | None


class Judge(NamedTuple):
    """A task ("classes", "labels" or "hierarchy") over classes with these roles ("good" or "defect")."""

    task: Task
    roles: Sequence[Role]

    @property
    def defects(self) -> Marks:
        """Which classes are defects: (classes,)."""
        return np.array([role == "defect" for role in self.roles])

    def targets(self, labels: NDArray[np.integer], marks: Marks | None) -> NDArray[np.float32]:
        """What the loss wants: (b, classes) float32, one-hot, or for "labels" the marks of each image."""
        if self.task == "labels" and marks is not None:
            return np.where(self.defects, marks, False).astype(np.float32)
        return np.asarray(np.eye(len(self.roles), dtype=np.float32)[labels])

    def figures(self, logits: Logits, labels: NDArray[np.integer], marks: Marks | None) -> Figures:
        """What logits (n, classes) are worth for images of these labels (n,) and marks (n, classes)."""
        if self.task == "labels" and marks is not None:
            return self._of_marks(logits.astype(np.float64), marks)
        logits = logits.astype(np.float64)
        said = np.asarray(logits.argmax(axis=1))
        losses = [balanced_loss(logits / temperature, labels) for temperature in TEMPERATURES]
        return Figures(
            loss=balanced_loss(logits, labels),
            calibrated_loss=min(losses),
            accuracy=float(np.mean(said == labels)),
            balanced_accuracy=float(np.mean([np.mean(said[labels == label] == label) for label in np.unique(labels)])),
            macro_f1=macro_f1(labels, said),
            **self._of_defects(self.defects[labels], self.defects[said]),
        )

    def _of_marks(self, logits: NDArray[np.float64], marks: Marks) -> Figures:
        """Macro-F1 over the marks that occur, each at threshold 0, and over bearing none; an answer is right if all
        marks are."""
        true, scores = marks[:, self.defects], logits[:, self.defects]
        said = scores > 0
        with_good = [np.column_stack([each, ~each.any(axis=1)]) for each in (true, said)]
        there = true.any(axis=0)
        sides = [(true, said), (~true, ~said)]
        rates = np.stack([(one & two).sum(axis=0) / np.maximum(one.sum(axis=0), 1) for one, two in sides])
        losses = [_marks_loss(scores / temperature, true) for temperature in TEMPERATURES]
        return Figures(
            loss=_marks_loss(scores, true),
            calibrated_loss=min(losses),
            accuracy=float(np.mean((said == true).all(axis=1))),
            balanced_accuracy=float(rates.mean(axis=0)[there].mean()),
            macro_f1=_mean_f1(*with_good),
            **self._of_defects(np.asarray(true.any(axis=1)), np.asarray(said.any(axis=1))),
        )

    def _of_defects(self, true: Marks, said: Marks) -> dict[str, float | None]:
        if not true.any():
            return {"defect_recall": None, "defect_balanced_accuracy": None}
        recall = float(said[true].mean())
        both = None if true.all() else (recall + float(1 - said[~true].mean())) / 2
        return {"defect_recall": None if both is None else recall, "defect_balanced_accuracy": both}


def _mean_f1(true: Marks, said: Marks) -> float:
    """Over the columns of (n, marks) that occur."""
    hits, either, there = (true & said).sum(axis=0), true.sum(axis=0) + said.sum(axis=0), true.any(axis=0)
    return float((2 * hits[there] / either[there]).mean())


def _marks_loss(scores: NDArray[np.float64], true: Marks) -> float:
    """Binary cross-entropy in nats: the mean over marks of the mean over images with, and over those without it."""
    surprise = np.logaddexp(0, np.where(true, -scores, scores))
    sides = [(surprise * side).sum(axis=0) / np.maximum(side.sum(axis=0), 1) for side in (true, ~true)]
    return float(np.mean(sides))
