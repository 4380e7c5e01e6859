"""A calibrated classifier in figures: which class and confidence bin each kind of part is answered with.

Parts are of six kinds, each with a Beta law of p(defect): two sorts of plainly good ones, ambiguous ones, plain
defects, strange ones (of no class), and good ones that the model is less sure of. With several defect classes each has
a kind of its own, and is confused with the next one now and then, with the confidence of ambiguous parts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from device_agent.contract.histogram import BINS, EDGES

Floats = NDArray[np.float64]
BETAS = ((0.6, 250.0), (0.6, 180.0), (1.2, 1.5), (20.0, 1.0), (2.0, 2.0), (0.6, 40.0))
GOOD_A, GOOD_B, AMBIGUOUS, DEFECT, STRANGE, SHIFTED = range(len(BETAS))
CONFUSED = 0.06
QUANTUM = 0.375
"""Step of the log-odds of an int8 artifact, natural units: two logits of scale 0.1875 to 0.375."""


@dataclass(frozen=True)
class Classifier:
    """Answers of a model. joint: (kinds, true class, predicted class * 24 + bin), each kind adds up to 1; defects:
    kinds of the defect classes, in their order; mix: their shares among all defects."""

    joint: Floats
    defects: tuple[int, ...]
    mix: Floats

    @property
    def classes(self) -> int:
        """Number of classes, the good one included."""
        return int(self.joint.shape[1])

    @property
    def shares(self) -> Floats:
        """Cell shares (kinds, classes * 24), whatever the true class."""
        return np.asarray(self.joint.sum(axis=1))


def classifier(classes: int = 2, *, quantum: float = 0.0) -> Classifier:
    """The classifier of the worlds: one good class, the others defects that get rarer by 0.7 from one to the next.

    Args:
        classes: 2 to 64.
        quantum: step in which log-odds are known, as those of an int8 artifact; 0 for exact ones.

    >>> ten = classifier(10)
    >>> ten.shares.shape, ten.defects[:3], ten.mix[:3].round(2).tolist()
    ((14, 240), (3, 6, 7), [0.31, 0.22, 0.15])

    Raises:
        BadInput: another number of classes, or a step that is none.
    """
    if not 2 <= classes <= 64 or not 0 <= quantum <= 2:
        raise BadInput(f"worlds: {classes} classes and log-odds in steps of {quantum}: must be 2 to 64, and 0 to 2")
    binary = _binary(quantum)
    mix = 0.7 ** np.arange(classes - 1)
    mix = mix / mix.sum()
    defects = (DEFECT, *range(len(BETAS), len(BETAS) + classes - 2))
    joint = np.zeros((len(BETAS) + classes - 2, classes, classes, BINS))
    confusion = _confusion(classes - 1)
    for kind in range(len(BETAS)):
        good, bad = binary[kind]
        joint[kind, 0, 0], joint[kind, 0, 1:] = good[0], np.outer(mix, good[1])
        joint[kind, 1:, 0] = np.outer(mix, bad[0])
        joint[kind, 1:, 1:] = (mix[:, None] * confusion)[:, :, None] * bad[1]
    unsure = binary[AMBIGUOUS].sum(axis=(0, 1)) / binary[AMBIGUOUS].sum()
    for true, kind in enumerate(defects):
        joint[kind] = 0
        (joint[kind, 0, 0], wrong), (missed, found) = binary[DEFECT]
        joint[kind, 0, 1 + true], joint[kind, 1 + true, 0] = wrong, missed
        rows = confusion[true][:, None] * unsure * found.sum()
        rows[true] = confusion[true, true] * found
        joint[kind, 1 + true, 1:] = rows
    return Classifier(joint.reshape(len(joint), classes, classes * BINS), defects, mix)


def components() -> Floats:
    """Cell shares (6, 48) of the kinds of `BETAS`, two classes.

    >>> components().sum(axis=1).round(6).tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    """
    return classifier().shares


def _confusion(defects: int) -> Floats:
    """Share (true, predicted) of the defect classes among themselves."""
    if defects == 1:
        return np.ones((1, 1))
    return np.asarray((1 - CONFUSED) * np.eye(defects) + CONFUSED * np.roll(np.eye(defects), 1, axis=1))


def _binary(quantum: float) -> Floats:
    """Shares (6, true defect, called defect, 24), by the midpoint rule over the log-odds of a defect."""
    step = 0.001
    odds = np.arange(-60, 60, step) + step / 2
    log_p, log_q = -np.logaddexp(0, -odds), -np.logaddexp(0, odds)
    said = np.round(odds / quantum) * quantum if quantum else odds
    called = said >= 0 if not quantum else said > 0  # equal logits name the first class
    cell = np.where(called, BINS, 0) + np.searchsorted(EDGES, np.abs(said), side="right")
    out = np.empty((len(BETAS), 2, 2 * BINS))
    for row, (a, b) in enumerate(BETAS):
        norm = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
        density = np.exp(norm + a * log_p + b * log_q) * step
        for true, truth in enumerate((log_q, log_p)):
            out[row, true] = np.bincount(cell, density * np.exp(truth), 2 * BINS)
    out /= out.sum(axis=(1, 2), keepdims=True)
    return out.reshape(len(BETAS), 2, 2, BINS)
