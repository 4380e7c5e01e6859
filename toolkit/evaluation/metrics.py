"""How good answers are: accuracy, macro-F1, recall of each class, calibration error."""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from converters import macro_f1 as counted
from device_agent.contract.errors import BadInput

BINS = 15
Bins = Literal["mass", "width"]


class Metrics(msgspec.Struct, frozen=True, kw_only=True):
    """Figures in [0, 1] over `images` images. `recall` stands in the order of the classes, None for a class that has
    no image here; macro-F1 is the mean over the classes that have one. `ece` is over 15
    equal-mass bins. `confusion` counts [true class][predicted]."""

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


def confidence_bins(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer], kind: Bins = "mass", *, bins: int = BINS
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Of each answer (n,): its confidence, whether it is right (0 to 1), and its bin, 0 to bins - 1.

    "mass" puts equally many answers into each bin by rank. Answers of equal confidence, of which a quantized model has
    many, may fall into two bins; each then counts as right by the share of them all, so that the order of the files
    does not matter.
    """
    confidence = np.asarray(probabilities, np.float64).max(axis=1)
    right = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    if kind == "width":
        return confidence, right, np.minimum((confidence * bins).astype(np.int64), bins - 1)
    _, tied, sizes = np.unique(confidence, return_inverse=True, return_counts=True)
    bin_ = np.empty(len(confidence), np.int64)
    bin_[np.argsort(confidence, kind="stable")] = np.arange(len(confidence)) * bins // len(confidence)
    return confidence, (np.bincount(tied, right) / sizes)[tied], bin_


def calibration_error(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer], *, kind: Bins = "mass", bins: int = BINS
) -> float:
    """Expected calibration error of the top-1 probability (Guo et al. 2017, On calibration of modern neural networks):
    sum over bins of share * |accuracy - confidence|; bins of equally many answers ("mass", Nguyen and O'Connor 2015) or
    of equal width.

    >>> calibration_error(np.array([[0.75, 0.25]] * 4), np.array([0, 0, 0, 1]))
    0.0
    """
    confidence, right, bin_ = confidence_bins(probabilities, labels, kind, bins=bins)
    return float(np.abs(np.bincount(bin_, right - confidence, minlength=bins)).sum() / len(labels))
