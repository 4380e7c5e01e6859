"""The temperature is recovered, never runs away, and the calibration error sees the difference."""

from __future__ import annotations

import numpy as np
import pytest

from device_agent.contract.errors import BadInput
from toolkit.evaluation.calibration import calibrated_elsewhere, error, fit_temperature, reliability
from toolkit.evaluation.metrics import softmax


def answers(temperature: float, count: int = 4000, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are right once they are divided by `temperature`."""
    rng = np.random.default_rng(1)
    honest = rng.normal(0, 2, (count, classes))
    labels = np.array([rng.choice(classes, p=row) for row in softmax(honest)])
    return honest * temperature, labels


@pytest.mark.parametrize("true", [0.4, 1.0, 2.5])
def test_the_temperature_is_recovered(true: float) -> None:
    logits, labels = answers(true)
    assert fit_temperature(logits, labels) == pytest.approx(true, rel=0.06)


def test_it_is_the_minimum_of_the_likelihood() -> None:
    logits, labels = answers(1.7, count=500)

    def loss(temperature: float) -> float:
        return float(-np.log(softmax(logits / temperature)[np.arange(len(labels)), labels]).mean())

    best = fit_temperature(logits, labels)
    assert loss(best) < min(loss(best * 0.9), loss(best * 1.1))


def test_a_model_that_is_always_right_is_not_made_certain() -> None:
    labels = np.arange(200) % 2
    logits = np.where(labels[:, None] == np.arange(2), 2.0, -2.0)
    temperature = fit_temperature(logits, labels)
    confidence = softmax(logits / temperature).max(axis=1)
    assert confidence == pytest.approx(1 - 1 / 202, abs=1e-4)


def test_the_error_falls_with_the_temperature_of_other_groups() -> None:
    logits, labels = answers(3.0)
    before = error(softmax(logits), labels)
    after = error(calibrated_elsewhere(logits, labels, np.arange(len(labels)) // 10), labels)
    assert before > 0.1
    assert after < 0.03


def test_a_single_group_is_calibrated_on_itself() -> None:
    logits, labels = answers(2.0, count=300)
    here = calibrated_elsewhere(logits, labels, np.zeros(300, int))
    assert np.allclose(here, softmax(logits / fit_temperature(logits, labels)))


def test_the_reliability_curve_counts_every_image() -> None:
    logits, labels = answers(1.0)
    curve = reliability(softmax(logits), labels)
    assert sum(bin_.images for bin_ in curve) == len(labels)
    assert np.ptp([bin_.confidence for bin_ in curve]) > 0.4
    full = [bin_ for bin_ in curve if bin_.images > 200]
    assert len(full) > 5
    assert all(abs(bin_.confidence - bin_.accuracy) < 0.08 for bin_ in full)


def test_no_images() -> None:
    with pytest.raises(BadInput, match="no images"):
        fit_temperature(np.zeros((0, 2)), np.zeros(0, int))
