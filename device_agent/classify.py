"""Logits to a calibrated answer."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from device_agent.contract.histogram import bin_of, log_odds


class Prediction(NamedTuple):
    """Top-1 class, its calibrated probability 0 to 1, log-odds, and histogram bin 0 to 23."""

    label: int
    probability: float
    log_odds: float
    bin: int


def classify(logits: NDArray[np.float32], temperature: float) -> Prediction:
    """The answer for one frame.

    Args:
        logits: (classes,) float32.
        temperature: divides the logits before the softmax, 0.01 to 100.

    >>> classify(np.array([0.0, 2.0], np.float32), 1.0)
    Prediction(label=1, probability=0.8807970779778823, log_odds=2.0, bin=7)

    Raises:
        BadInput: a logit is not finite, or is not once it is divided: there is no answer.
    """
    odds = float(log_odds(logits[None], temperature)[0]) if np.isfinite(logits).all() else np.nan
    if not np.isfinite(odds):
        raise BadInput(f"logits must be finite, got {np.array2string(logits[:8], precision=3)}")
    return Prediction(int(logits.argmax()), float(1 / (1 + np.exp(-odds))), odds, int(bin_of(odds)))
