"""The temperature is recovered, never runs away, and the calibration error sees the difference."""

from __future__ import annotations

import numpy as np
import pytest

from device_agent.contract.errors import BadInput
from toolkit.evaluation.calibration import calibrated_elsewhere, error, error_interval, fit_temperature, reliability
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


@pytest.mark.parametrize("gap", [2.0, 4.0, 8.0])
def test_a_model_that_is_always_right_is_not_made_certain(gap: float) -> None:
    labels = np.arange(200) % 2
    logits = np.where(labels[:, None] == np.arange(2), gap, 0.0)
    confidence = softmax(logits / fit_temperature(logits, labels)).max(axis=1)
    assert 1e-4 < 1 - confidence[0] < 0.02


def test_a_model_that_was_honest_stays_so_on_few_images_of_which_few_are_wrong() -> None:
    """The true calibration error: the odds that the logits were drawn by are known."""
    rng, apart = np.random.default_rng(3), np.eye(7) * 9
    off = []
    for _ in range(40):
        honest = rng.normal(0, 1.5, (134, 7)) + apart[rng.integers(0, 7, 134)]
        labels = (honest + rng.gumbel(size=honest.shape)).argmax(axis=1)
        confidence = softmax(honest / fit_temperature(honest, labels)).max(axis=1)
        off.append(np.abs(confidence - softmax(honest).max(axis=1)).mean())
    assert np.mean(off) < 0.01


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


def _drawn(rng: np.random.Generator, groups: int, size: int, power: float) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (n, 2) and labels; the odds of being right are the claimed ones to `power`, and images of a group
    share their luck (a Gaussian copula with a correlation of 0.4)."""
    from scipy.special import ndtr

    confidence = 0.5 + 0.499 * rng.beta(2, 1, groups * size)
    right = 1 / (1 + (1 / confidence - 1) ** power)
    luck = np.sqrt(0.4) * np.repeat(rng.normal(size=groups), size) + np.sqrt(0.6) * rng.normal(size=groups * size)
    return np.column_stack([confidence, 1 - confidence]), (ndtr(luck) >= right).astype(int)


@pytest.mark.parametrize("power", [1.0, 0.6, 0.3])
@pytest.mark.parametrize(("groups", "size"), [(60, 4), (400, 2)])
def test_95_of_100_intervals_of_the_calibration_error_hold_it(power: float, groups: int, size: int) -> None:
    rng = np.random.default_rng(7)
    confidence = 0.5 + 0.499 * rng.beta(2, 1, 200_000)
    true = float(np.mean(np.abs(1 / (1 + (1 / confidence - 1) ** power) - confidence)))
    held = []
    for _ in range(120):
        low, high = error_interval(
            *_drawn(rng, groups, size, power), np.arange(groups * size) // size, rng=rng, draws=300
        )
        held.append(low <= true + 1e-9 and true <= high)
    assert 0.9 <= np.mean(held) <= (0.99 if power < 1 else 1.0), np.mean(held)


def test_the_interval_of_the_error_is_no_excuse_where_the_model_is_wrong() -> None:
    probabilities = np.repeat([[0.99, 0.01]], 300, axis=0)
    labels = (np.arange(300) % 2).astype(int)
    low, high = error_interval(probabilities, labels, np.arange(300), rng=np.random.default_rng(0))
    assert 0.35 < low < 0.49 < high < 0.6


def test_one_group_alone_has_an_interval() -> None:
    probabilities = np.repeat([[0.9, 0.1]], 20, axis=0)
    low, high = error_interval(probabilities, np.zeros(20, int), np.zeros(20), rng=np.random.default_rng(0))
    assert low == 0 and high == pytest.approx(0.1), "less than noise alone would give, but not below what was seen"
    low, high = error_interval(probabilities, np.ones(20, int), np.zeros(20), rng=np.random.default_rng(0))
    assert 0.5 < low < 0.9 <= high


def test_bins_of_equal_mass_hold_equally_many_and_see_what_wide_bins_hide() -> None:
    confidence = np.concatenate([np.linspace(0.95, 0.974, 150), np.linspace(0.975, 0.999, 150)])
    probabilities = np.column_stack([confidence, 1 - confidence])
    labels = np.concatenate([np.arange(150) % 12 == 0, np.zeros(150, bool)]).astype(int)
    assert {one.images for one in reliability(probabilities, labels)} == {20}
    assert error(probabilities, labels) > error(probabilities, labels, "width") + 0.005


def test_the_order_of_the_files_does_not_change_the_error_of_equal_confidences() -> None:
    probabilities = np.repeat([[0.9, 0.1], [0.8, 0.2]], 50, axis=0)
    labels = (np.random.default_rng(0).random(100) < 0.2).astype(int)
    by_file = np.argsort(labels[:50], kind="stable")
    shuffled = np.concatenate([by_file, np.arange(50, 100)])
    assert error(probabilities, labels) == pytest.approx(error(probabilities[shuffled], labels[shuffled]))
    assert error(probabilities, labels) < 0.2
