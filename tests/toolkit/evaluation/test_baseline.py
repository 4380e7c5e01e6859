"""The baseline is the device's histogram of the validation images, by true class."""

from __future__ import annotations

import numpy as np

from device_agent.classify import classify
from toolkit.evaluation.baseline import count_baseline


def test_it_counts_what_the_device_would_count() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, 3, (500, 4)).astype(np.float32), rng.integers(0, 4, 500)
    dense = count_baseline(logits, labels, 1.3).dense()
    assert (dense.sum(axis=(0, 1)) > 0).sum() > 8
    wanted = np.zeros_like(dense)
    for row, label in zip(logits, labels, strict=True):
        prediction = classify(row, 1.3)
        wanted[label, prediction.label, prediction.bin] += 1
    assert (dense == wanted).all()


def test_a_higher_temperature_moves_the_mass_down() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, 3, (500, 4)), rng.integers(0, 4, 500)
    bins = np.arange(24)
    cold, hot = (count_baseline(logits, labels, t).dense().sum(axis=(0, 1)) @ bins for t in (0.5, 2.0))
    assert hot < cold


def test_the_prevalence_is_kept() -> None:
    baseline = count_baseline(np.eye(2), np.array([0, 1]), 1.0, [0.99, 0.01])
    assert baseline.prevalence == [0.99, 0.01]
