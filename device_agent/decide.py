"""What becomes of a part: passed, rejected, or looked at by a person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.manifest import Decision, Label

Fate = Literal["pass", "review", "reject"]


def defect_log_odds(
    logits: NDArray[np.floating], scale: Sequence[float], shift: Sequence[float], good: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Log-odds (n,) that a part is a defect, natural units: of all defect classes against all good ones.

    Args:
        logits: (n, classes), finite.
        scale: (classes,) multiplies the logits: 1 / temperature, or each class its own.
        shift: (classes,) is added then: a calibrated offset, and the logarithm of how much more often the line makes
            the class than the data had it.
        good: (classes,) which classes are good; at least one is, at least one is not.

    >>> shift = [np.log(0.99 / 0.5), np.log(0.01 / 0.5)]
    >>> defect_log_odds(np.array([[0.0, 4.0]]), [0.5, 0.5], shift, np.array([True, False])).round(3).tolist()
    [-2.595]
    """
    scores = np.asarray(logits, np.float64) * np.asarray(scale) + np.asarray(shift)
    return np.asarray(_log_sum(scores[:, ~good]) - _log_sum(scores[:, good]))


def decide(logits: NDArray[np.floating], decision: Decision, labels: Sequence[Label]) -> Fate:
    """What becomes of the part with these logits (classes,).

    >>> decision = Decision(low=-4, high=2, scale=[1, 1], shift=[0, 0], prevalence=[0.9, 0.1], confidence=0.95)
    >>> labels = [Label("good", "good"), Label("crack", "defect")]
    >>> [decide(np.array([0.0, crack]), decision, labels) for crack in (-5.0, -4.0, 2.0)]
    ['pass', 'review', 'reject']
    """
    good = np.array([label.role == "good" for label in labels])
    odds = float(defect_log_odds(np.asarray(logits)[None], decision.scale, decision.shift, good)[0])
    if odds < decision.low:
        return "pass"
    return "reject" if odds >= decision.high else "review"


def _log_sum(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    peak = scores.max(axis=1)
    return np.asarray(peak + np.log(np.exp(scores - peak[:, None]).sum(axis=1)))
