"""Figures against values worked out by hand and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, log_loss, recall_score

from device_agent.contract.errors import BadInput
from toolkit.evaluation.metrics import balanced_loss, calibration_error, macro_f1, measure, softmax


def test_measure_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 300)
    logits = rng.normal(0, 1, (300, 4)) + 1.2 * np.eye(4)[labels]
    found, predicted = measure(logits, labels), logits.argmax(axis=1)
    assert 0.4 < found.accuracy < 0.9
    assert found.accuracy == pytest.approx(accuracy_score(labels, predicted))
    assert found.macro_f1 == pytest.approx(f1_score(labels, predicted, average="macro"))
    assert found.recall == pytest.approx(list(recall_score(labels, predicted, average=None)))
    assert found.confusion == confusion_matrix(labels, predicted).tolist()


def test_a_class_without_images_has_no_recall_and_does_not_count() -> None:
    logits = np.array([[3.0, 0, 0], [0, 3, 0], [0, 3, 0]])
    found = measure(logits, np.array([0, 1, 1]))
    assert found.recall == [1.0, 1.0, None]
    assert found.macro_f1 == 1.0


def test_taking_an_image_for_an_absent_class_costs() -> None:
    assert macro_f1([0, 0, 1, 1], [0, 2, 1, 1]) == pytest.approx((2 / 3 + 1) / 2)


def test_no_images() -> None:
    with pytest.raises(BadInput, match="no images"):
        measure(np.zeros((0, 3)), np.zeros(0, int))


def test_calibration_error_of_an_overconfident_model() -> None:
    probabilities = np.array([[0.95, 0.05]] * 10)
    assert calibration_error(probabilities, np.array([0] * 6 + [1] * 4)) == pytest.approx(0.35)


def test_temperature_changes_the_calibration_error_only() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 400)
    logits = 8 * (rng.normal(0, 1, (400, 3)) + np.eye(3)[labels])
    hot, cold = measure(logits, labels, temperature=6.0), measure(logits, labels)
    assert hot.macro_f1 == cold.macro_f1
    assert hot.ece < cold.ece - 0.1


def test_balanced_loss_weighs_classes_alike() -> None:
    rng = np.random.default_rng(2)
    labels = np.repeat([0, 1], [90, 10])
    logits = rng.normal(0, 2, (100, 2))
    weights = np.where(labels == 0, 1 / 90, 1 / 10)
    assert balanced_loss(logits, labels) == pytest.approx(log_loss(labels, softmax(logits), sample_weight=weights))


def test_extreme_logits_stay_finite() -> None:
    assert softmax(np.array([[1e4, -1e4]])).tolist() == [[1.0, 0.0]]
    assert np.isfinite(balanced_loss(np.array([[1e4, -1e4]]), np.array([1])))
