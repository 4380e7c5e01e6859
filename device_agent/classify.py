"""Logits to a calibrated answer."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.histogram import bin_of, log_odds


class Prediction(NamedTuple):
    """Top-1 class, its calibrated probability 0 to 1, log-odds, and histogram bin 0 to 23."""

    label: int
    probability: float
    log_odds: float
    bin: int


def classify(logits: NDArray[np.float32], temperature: float) -> Prediction:
    """The answer for one frame; a logit that is not finite gives label 0 with probability 0 in bin 0.

    Args:
        logits: (classes,) float32.
        temperature: divides the logits before the softmax, > 0.

    >>> classify(np.array([0.0, 2.0], np.float32), 1.0)
    Prediction(label=1, probability=0.8807970779778823, log_odds=2.0, bin=7)
    """
    if not np.isfinite(logits).all():
        return Prediction(0, 0.0, float("-inf"), 0)
    odds = float(log_odds(logits[None], temperature)[0])
    return Prediction(int(logits.argmax()), float(1 / (1 + np.exp(-odds))), odds, int(bin_of(odds)))
