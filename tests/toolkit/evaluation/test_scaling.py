"""Vector scaling: right where a class is off, not chosen where a temperature does as well."""

from __future__ import annotations

import numpy as np
import pytest

from toolkit.evaluation.calibration import fit_temperature
from toolkit.evaluation.metrics import balanced_loss, softmax
from toolkit.evaluation.scaling import by_temperature, choose_scaling, fit_vector

SIZE = 1500


def world(seed: int, offset: float, size: int = SIZE) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Calibrated logits of three classes to which `offset` is added in the first, three images a group."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (size, 3))
    labels = np.array([rng.choice(3, p=chance) for chance in softmax(logits)])
    return logits + np.array([offset, 0, 0]), labels, np.arange(size) // 3


def test_vector_scaling_takes_back_what_was_added_to_one_class():
    logits, labels, _ = world(0, 2.0)
    affine = fit_vector(logits, labels, fit_temperature(logits, labels))
    shift = affine.shift - affine.shift.mean()
    assert shift[0] == pytest.approx(-4 / 3, abs=0.25)
    assert affine.scale == pytest.approx(np.ones(3), abs=0.25)


def test_it_is_chosen_where_one_class_is_off_and_says_what_it_changes():
    logits, labels, groups = world(1, 2.0)
    scaling = choose_scaling(logits, labels, groups, fit_temperature(logits, labels))
    assert scaling.kind == "vector"
    assert scaling.nll["vector"] < scaling.nll["temperature"] and scaling.ece["vector"] < scaling.ece["temperature"]
    assert 0.05 < scaling.top_changed < 0.5


def test_a_temperature_is_kept_where_it_does_as_well():
    for seed in range(4):
        logits, labels, groups = world(10 + seed, 0.0, 300)
        temperature = fit_temperature(3 * logits, labels)
        scaling = choose_scaling(3 * logits, labels, groups, temperature)
        assert scaling.kind == "temperature"
        assert scaling.scale == pytest.approx([1 / temperature] * 3) and scaling.shift == [0, 0, 0]


def test_few_images_cannot_run_away_with_a_class():
    logits, labels, _ = world(2, 0.0, 12)
    affine = fit_vector(logits, np.zeros(12, int), 1.0)
    assert np.abs(affine.shift).max() < 3 and affine.scale.min() > 0
    assert np.isfinite(balanced_loss(logits * affine.scale + affine.shift, labels))


def test_a_calibration_that_is_asked_for_is_taken():
    logits, labels, groups = world(3, 0.0, 300)
    assert choose_scaling(logits, labels, groups, 1.0, kind="vector").kind == "vector"
    assert choose_scaling(logits + np.array([3, 0, 0]), labels, groups, 1.0, kind="temperature").kind == "temperature"
    assert by_temperature(2.0, 3).probabilities(logits) == pytest.approx(softmax(logits / 2))


def test_one_group_is_enough_to_be_read():
    logits, labels, _ = world(4, 0.0, 30)
    assert choose_scaling(logits, labels, np.zeros(30), 1.0).groups == 1
