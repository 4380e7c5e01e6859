"""How good answers are: accuracy, macro-F1, recall of each class, calibration error."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from converters import macro_f1 as counted
from device_agent.contract.errors import BadInput


class Metrics(msgspec.Struct, frozen=True, kw_only=True):
    """Figures in [0, 1] over `images` images. `recall` stands in the order of the classes, None for a class that has
    no image here; macro-F1 is the mean over the classes that have one. `confusion` counts [true class][predicted]."""

    images: int
    accuracy: float
    macro_f1: float
    recall: list[float | None]
    ece: float
    confusion: list[list[int]]


def measure(logits: NDArray[np.floating], labels: NDArray[np.integer], *, temperature: float = 1.0) -> Metrics:
    """Metrics of answers.

    Args:
        logits: (n, classes), any real numbers.
        labels: (n,) true classes, 0 to classes - 1.
        temperature: divides the logits before the calibration error is taken, > 0.

    >>> measure(np.array([[2.0, 0], [0, 1], [3, 0]]), np.array([0, 1, 1])).recall
    [1.0, 0.5]

    Raises:
        BadInput: no images.
    """
    if not len(labels):
        raise BadInput("no images to measure on")
    classes, predicted = logits.shape[1], logits.argmax(axis=1)
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (labels, predicted), 1)
    true = confusion.sum(axis=1)
    recall = [float(hit / all_) if all_ else None for hit, all_ in zip(np.diag(confusion), true, strict=True)]
    return Metrics(
        images=len(labels),
        accuracy=float(np.mean(predicted == labels)),
        macro_f1=macro_f1(labels, predicted),
        recall=recall,
        ece=calibration_error(softmax(logits / temperature), labels),
        confusion=confusion.tolist(),
    )


def macro_f1(labels: ArrayLike, predicted: ArrayLike) -> float:
    """Mean F1 of the classes that occur among `labels`; predictions of a class that does not occur still count as
    errors of the true one.

    >>> round(macro_f1([0, 0, 1, 1], [0, 0, 1, 0]), 3)
    0.733
    """
    true, said = np.asarray(labels), np.asarray(predicted)
    return float(counted.macro_f1(counted.count(true, said, int(max(true.max(), said.max())) + 1).sum(axis=1)))


def balanced_loss(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Cross-entropy in nats, the mean over the classes of the mean over their images.

    >>> round(balanced_loss(np.zeros((3, 2)), np.array([0, 0, 1])), 4)
    0.6931
    """
    logits = logits - logits.max(axis=1, keepdims=True)
    surprise = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(labels)), labels]
    return float(np.mean([surprise[labels == label].mean() for label in np.unique(labels)]))


def softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Probabilities (n, classes) of logits (n, classes)."""
    shifted = np.exp(np.asarray(logits, np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def calibration_error(probabilities: NDArray[np.floating], labels: NDArray[np.integer], *, bins: int = 15) -> float:
    """Expected calibration error of the top-1 probability over equal-width bins (Guo et al. 2017, On calibration of
    modern neural networks): sum over bins of share * |accuracy - confidence|.

    >>> calibration_error(np.array([[0.75, 0.25]] * 4), np.array([0, 0, 0, 1]))
    0.0
    """
    confidence = probabilities.max(axis=1)
    surplus = (probabilities.argmax(axis=1) == labels) - confidence
    bin_ = np.minimum((confidence * bins).astype(int), bins - 1)
    return float(np.abs(np.bincount(bin_, weights=surplus, minlength=bins)).sum() / len(labels))
