"""How near a model's answers are to those of the float network, and how much nearer than another's."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from converters.macro_f1 import count, macro_f1

DRAWS = 1000
Logits = NDArray[np.floating]


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """Answers against those of the float network, on the same images as those of the file as it is.

    `error` is the mean absolute error of an answer as a share of their spread, each image's mean taken off, and `gain`
    by which share of itself it became less, with a 95 % interval over images. `agreement` is the share of images with
    the same top class, in [0, 1]. `points` is what macro-F1 won in points, with its interval; None without labels.
    """

    error: float
    gain: float
    gain_low: float
    gain_high: float
    agreement: float
    macro_f1: float | None = None
    points: float | None = None
    points_low: float | None = None
    points_high: float | None = None


def judge(reference: Logits, before: Logits, after: Logits, labels: NDArray[np.integer] | None) -> Judgement:
    """What the answers `after` are worth beside those `before`, (n, classes) each, with labels (m,) of the first m.

    >>> true = np.array([[2.0, 0.0], [0.0, 2.0], [3.0, 0.0], [0.0, 1.0]])
    >>> found = judge(true, true * 1.2, true * 1.1, np.array([0, 1, 0, 1]))
    >>> round(found.gain, 2), found.agreement, found.points
    (0.5, 1.0, 0.0)
    """
    true = _centre(reference)
    spread = float(true.std()) or 1.0
    errors = [np.abs(_centre(each) - true).mean(axis=1) / spread for each in (before, after)]
    rng = np.random.default_rng(0)
    rows = rng.integers(0, len(true), (DRAWS, len(true)))
    old, new = (each[rows].mean(axis=1) for each in errors)
    low, high = np.quantile(1 - new / np.maximum(old, 1e-12), [0.025, 0.975])
    made = Judgement(
        error=float(errors[1].mean()),
        gain=1 - float(errors[1].mean()) / max(float(errors[0].mean()), 1e-12),
        gain_low=float(low),
        gain_high=float(high),
        agreement=float((after.argmax(axis=1) == reference.argmax(axis=1)).mean()),
    )
    return made if labels is None else _with_points(made, before, after, labels, rng)


def _with_points(
    made: Judgement, before: Logits, after: Logits, labels: NDArray[np.integer], rng: np.random.Generator
) -> Judgement:
    counts = [count(labels, each[: len(labels)].argmax(axis=1), each.shape[1]) for each in (before, after)]
    was, is_ = (float(macro_f1(each.sum(axis=1))) for each in counts)
    weights = rng.multinomial(len(labels), np.full(len(labels), 1 / len(labels)), size=DRAWS)
    drawn = 100 * (macro_f1(weights @ counts[1]) - macro_f1(weights @ counts[0]))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return msgspec.structs.replace(
        made, macro_f1=is_, points=100 * (is_ - was), points_low=float(low), points_high=float(high)
    )


def _centre(values: Logits) -> Logits:
    return np.asarray(values - values.mean(axis=1, keepdims=True), np.float64)
