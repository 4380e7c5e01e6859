"""The baseline of an artifact: what its confidence histogram looks like on images with known classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.histogram import BINS, bin_of, log_odds
from device_agent.contract.manifest import Baseline


def count_baseline(
    logits: NDArray[np.floating],
    labels: NDArray[np.integer],
    temperature: float,
    prevalence: list[float] | None = None,
) -> Baseline:
    """Counts [true class, predicted class, bin] of answers, made as the device makes its histogram.

    Args:
        logits: (n, classes), finite, of images that the model was not trained on.
        labels: (n,) true classes.
        temperature: the artifact's, > 0.
        prevalence: share of each true class on the line, adds up to 1; None if it is not stated.

    >>> baseline = count_baseline(np.array([[4.0, 0.0], [0.0, 1.0]]), np.array([0, 0]), 1.0)
    >>> np.argwhere(baseline.dense()).tolist()
    [[0, 0, 11], [0, 1, 5]]
    """
    classes = logits.shape[1]
    counts = np.zeros((classes, classes, BINS), np.int64)
    np.add.at(counts, (labels, logits.argmax(axis=1), bin_of(log_odds(np.asarray(logits), temperature))), 1)
    return Baseline.of(counts, prevalence)
