"""Figures and decisions of each task, on cases that can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from toolkit.evaluation.metrics import balanced_loss, macro_f1
from toolkit.training.judgement import Judge

ROLES = ["defect", "good", "defect"]


def test_classes_are_judged_as_everywhere_else() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(60, 3)), rng.integers(0, 3, 60)
    found = Judge("classes", ROLES).figures(logits, labels, None)
    assert found.macro_f1 == macro_f1(labels, logits.argmax(axis=1))
    assert found.loss == pytest.approx(balanced_loss(logits, labels))
    recalls = [(logits.argmax(axis=1)[labels == label] == label).mean() for label in range(3)]
    assert found.balanced_accuracy == pytest.approx(np.mean(recalls))


def test_calibrated_loss_does_not_hang_on_the_scale_of_the_logits() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 400)
    logits = 2 * np.eye(3)[labels] + rng.normal(size=(400, 3))
    judge = Judge("classes", ROLES)
    one, loud = judge.figures(logits, labels, None), judge.figures(10 * logits, labels, None)
    assert loud.loss > 1.5 * one.loss
    assert loud.calibrated_loss == pytest.approx(one.calibrated_loss, rel=0.01) and one.calibrated_loss <= one.loss


def test_defects_are_counted_together_whatever_their_kind() -> None:
    said = np.array([2, 1, 1, 0])  # one defect taken for the other, one missed, one good right, one good wrong
    found = Judge("classes", ROLES).figures(9.0 * np.eye(3)[said], np.array([0, 2, 1, 1]), None)
    assert found.defect_recall == 0.5 and found.defect_balanced_accuracy == 0.5
    alone = Judge("classes", ["defect"] * 3).figures(np.eye(3), np.arange(3), None)
    assert alone.defect_recall is None and alone.defect_balanced_accuracy is None


def test_a_hierarchy_is_judged_by_the_top_class_as_the_device_says_it() -> None:
    logits = np.array([[1.0, 1.4, 1.0], [1.0, 3.0, 1.0], [0.0, -1.0, 0.5]])
    found = [Judge(task, ROLES).figures(logits, np.array([0, 1, 2]), None) for task in ("classes", "hierarchy")]
    assert found[0] == found[1] and found[0].accuracy == pytest.approx(2 / 3)


def test_marks_are_judged_each_at_threshold_zero() -> None:
    marks = np.array([[1, 0, 1], [1, 0, 0], [0, 0, 0], [0, 0, 1]], bool)
    logits = np.array([[2.0, 0, 1], [1, 0, -1], [1, 0, -1], [-1, 0, -2]])
    found = Judge("labels", ROLES).figures(logits, np.array([0, 0, 1, 2]), marks)
    assert found.macro_f1 == pytest.approx((2 * 2 / (3 + 2) + 2 * 1 / (1 + 2) + 0) / 3), "marks, and none of them"
    assert found.accuracy == 0.5 and found.defect_recall == pytest.approx(2 / 3)
    assert found.defect_balanced_accuracy == pytest.approx((2 / 3 + 0) / 2)


def test_targets_of_marks_have_nothing_in_the_good_column() -> None:
    judge, marks = Judge("labels", ROLES), np.array([[True, True, False]])
    assert judge.targets(np.array([0]), marks).tolist() == [[1, 0, 0]]
    assert Judge("hierarchy", ROLES).targets(np.array([1]), None).tolist() == [[0, 1, 0]]
