"""How unsure a model is of each picture: what it answers, with which probability, and how far the next answer is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from device_agent.contract.manifest import Label

Vector = NDArray[np.float64]


class Doubt(NamedTuple):
    """One entry a picture, all (n,): the answer by name, its class, the probability in [0, 1] that it is wholly right,
    the probability between the answer and the runner-up, and the entropy in nats; and the names of all classes."""

    answers: list[str]
    labels: NDArray[np.int64]
    confidence: Vector
    margin: Vector
    entropy: Vector
    names: list[str]

    def __len__(self) -> int:
        return len(self.answers)


def doubts(
    logits: NDArray[np.floating], classes: Sequence[Label], *, temperature: float = 1.0, task: str = "classes"
) -> Doubt:
    """The doubts behind logits (n, classes), after division by the temperature (Guo et al. 2017).

    In the task "labels" an answer is the set of marks whose logit is above 0, and right if all of them are; in
    "hierarchy" it is good or defect first, then the class within.

    >>> doubt = doubts(np.array([[0.0, 0.0], [3.0, 0.0]]), [Label("good", "good"), Label("pit", "defect")])
    >>> doubt.answers, doubt.confidence.round(3).tolist()
    (['good', 'good'], [0.5, 0.953])

    Raises:
        BadInput: another number of classes, logits that are not finite, a temperature of 0 or less.
    """
    if logits.ndim != 2 or logits.shape[1] != len(classes):
        raise BadInput(f"logits are {logits.shape}, the model has {len(classes)} classes")
    if not np.isfinite(logits).all():
        raise BadInput(f"logits of {int((~np.isfinite(logits).all(axis=1)).sum())} pictures are not finite")
    if not 0 < temperature < np.inf:
        raise BadInput(f"temperature must be above 0, got {temperature}")
    scores = np.asarray(logits, np.float64) / temperature
    good = np.array([label.role == "good" for label in classes])
    names = [label.name for label in classes]
    if task == "labels":
        return _marked(scores, names, good)
    shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares = shifted / shifted.sum(axis=1, keepdims=True)
    labels = scores.argmax(axis=1)
    if task == "hierarchy":
        defective = shares[:, ~good].sum(axis=1) > shares[:, good].sum(axis=1)
        labels = np.where(defective[:, None] == ~good, scores, -np.inf).argmax(axis=1)
    rows = np.arange(len(scores))
    others = shares.copy()
    others[rows, labels] = 0
    return Doubt(
        answers=[names[label] for label in labels],
        labels=labels.astype(np.int64),
        confidence=shares[rows, labels],
        margin=np.abs(shares[rows, labels] - others.max(axis=1, initial=0)),
        entropy=-(shares * np.log(np.maximum(shares, 1e-300))).sum(axis=1),
        names=names,
    )


def _marked(scores: Vector, names: list[str], good: NDArray[np.bool_]) -> Doubt:
    marks = scores[:, ~good]
    sure = 1 / (1 + np.exp(-np.abs(marks)))
    kinds = [name for name, fine in zip(names, good, strict=True) if not fine]
    fine = next((name for name, is_good in zip(names, good, strict=True) if is_good), "good")
    chosen = [[name for name, there in zip(kinds, row, strict=True) if there] for row in marks > 0]
    unsure = np.maximum(1 - sure, 1e-300)
    return Doubt(
        answers=["|".join(found) or fine for found in chosen],
        labels=np.where(good, 0.0, scores).argmax(axis=1).astype(np.int64),
        confidence=sure.prod(axis=1),
        margin=(2 * sure - 1).min(axis=1),
        entropy=-(sure * np.log(sure) + unsure * np.log(unsure)).sum(axis=1),
        names=names,
    )
