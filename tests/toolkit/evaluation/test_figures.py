"""Figures by hand for the three tasks."""

from __future__ import annotations

import numpy as np
import pytest

from toolkit.evaluation.figures import Figure, Judged, Task, measure_figures, names_of, top_labels
from toolkit.evaluation.metrics import softmax

NAMES = ["crack", "good", "pit"]


def judged(
    logits: list[list[float]], labels: list[int], task: Task = "classes", marks: list[list[bool]] | None = None
) -> Judged:
    values = np.array(logits)
    return Judged(
        logits=values,
        probabilities=softmax(values),
        labels=np.array(labels),
        groups=np.arange(len(labels)).astype(str),
        names=NAMES,
        roles=["defect", "good", "defect"],
        task=task,
        marks=None if marks is None else np.array(marks),
    )


def measured(of: Judged) -> dict[str, Figure]:
    return measure_figures(of, rng=np.random.default_rng(0))


def test_figures_of_classes_are_those_of_scikit_learn() -> None:
    from sklearn import metrics

    rng = np.random.default_rng(0)
    labels = rng.choice(3, 200, p=[0.2, 0.6, 0.2])
    logits = 2 * np.eye(3)[labels] + rng.normal(0, 1.2, (200, 3))
    found, said = measured(judged(logits.tolist(), labels.tolist())), logits.argmax(axis=1)
    expected = {
        "accuracy": metrics.accuracy_score(labels, said),
        "balanced-accuracy": metrics.balanced_accuracy_score(labels, said),
        "macro-f1": metrics.f1_score(labels, said, average="macro"),
        "top-2": metrics.top_k_accuracy_score(labels, logits, k=2),
        "recall.pit": metrics.recall_score(labels, said, labels=[2], average="macro"),
        "precision.pit": metrics.precision_score(labels, said, labels=[2], average="macro"),
        "f1.crack": metrics.f1_score(labels, said, labels=[0], average="macro"),
        "ap.crack": metrics.average_precision_score(labels == 0, softmax(logits)[:, 0]),
    }
    assert {name: found[name].value for name in expected} == pytest.approx(expected)
    assert found["mean-ap"].value == pytest.approx(np.mean([found[f"ap.{name}"].value for name in NAMES]))
    assert all(one.low <= one.value <= one.high for one in found.values()), found
    assert all(one.low < one.high for one in found.values())
    assert found["recall.pit"].images == (labels == 2).sum() and found["precision.pit"].images == (said == 2).sum()
    assert "top-3" not in found


def test_good_and_defect_are_told_apart_before_the_kind() -> None:
    logits = [[3.0, 0, 0], [0, 0, 3.0], [0, 3.0, 0], [0, 3.0, 0], [3.0, 0, 0]]
    found = measured(judged(logits, [0, 0, 0, 1, 1]))
    values = {name: found[name].value for name in ("defect-recall", "escape-rate", "false-alarm-rate", "kind-accuracy")}
    assert values == pytest.approx(
        {"defect-recall": 2 / 3, "escape-rate": 1 / 3, "false-alarm-rate": 0.5, "kind-accuracy": 0.5}
    )
    assert found["defect-precision"].value == pytest.approx(2 / 3) and found["kind-accuracy"].images == 2


def test_a_hierarchy_is_told_as_the_device_says_it_and_ranked_by_all_its_kinds() -> None:
    torn = judged([[1.0, 1.2, 1.0]] * 2, [0, 2], "hierarchy")
    found = measured(torn)
    assert found["escape-rate"].value == 1 and found["accuracy"].value == 0, "the top class is what the device says"
    assert (torn.defect_scores() > 0.5).all(), "an operating point may put its threshold on both kinds together"


def test_marks_are_judged_one_by_one_and_all_together() -> None:
    logits = [[2.0, 0, 2.0], [2.0, 0, -2.0], [-1.0, 0, -1.0], [-1.0, 0, 1.0]]
    marks = [[True, False, True], [True, False, True], [False, False, False], [False, False, False]]
    one = judged(logits, [2, 2, 1, 1], "labels", marks)
    assert one.truth()[:, 1].tolist() == [False, False, True, True]
    assert one.said()[:, 1].tolist() == [False, False, True, False]
    found = measured(one)
    assert found["exact-match"].value == 0.5
    assert found["recall.crack"].value == 1 and found["recall.pit"].value == 0.5 and found["recall.good"].value == 0.5
    assert found["precision.pit"].value == 0.5
    assert found["defect-recall"].value == 1 and found["false-alarm-rate"].value == 0.5
    assert found["accuracy"].value == 0.75, "a top class that is one of the marks is right"
    assert found["ap.good"].value == 1, "images without a mark are ranked by their likeliest mark"


def test_an_image_of_two_marks_is_judged_by_the_one_that_was_answered() -> None:
    marks = np.array([[True, False, True], [False, False, True]])
    assert top_labels(np.array([[3.0, 0, 1], [3.0, 0, 1]]), np.array([2, 2]), marks).tolist() == [0, 2]


def test_the_top_of_the_ranking_is_by_the_probability_of_any_defect() -> None:
    rng = np.random.default_rng(1)
    labels = np.where(np.arange(200) < 20, 0, 1)
    logits = np.zeros((200, 3))
    logits[:, 1] = np.where(labels == 1, 4, 2) + rng.normal(0, 0.1, 200)
    found = measured(judged(logits.tolist(), labels.tolist()))
    assert found["precision-at-5%"].value == 1 and found["precision-at-5%"].images == 10
    assert found["recall-at-5%"].value == 0.5 and found["defect-recall"].value == 0


def test_a_class_without_images_has_no_figures() -> None:
    found = measured(judged([[3.0, 0, 0], [0, 3.0, 0]], [0, 1]))
    assert "recall.pit" not in found and "ap.pit" not in found and found["macro-f1"].value == 1
    assert names_of([found, {"new": found["accuracy"]}])[-1] == "new"


def test_images_of_one_part_make_every_interval_wider() -> None:
    rng = np.random.default_rng(2)
    labels = np.repeat(rng.integers(0, 3, 60), 5)
    right = np.repeat(rng.random(60) < 0.8, 5)
    logits = 3 * np.eye(3)[np.where(right, labels, (labels + 1) % 3)]
    alone = judged(logits.tolist(), labels.tolist())
    parts = Judged(**{name: getattr(alone, name) for name in alone.__struct_fields__} | {"groups": np.arange(300) // 5})
    wide, narrow = measured(parts), measured(alone)
    for name in ("accuracy", "macro-f1", "balanced-accuracy", "recall.crack", "precision.crack", "f1.pit", "ap.good"):
        assert wide[name].high - wide[name].low > 1.5 * (narrow[name].high - narrow[name].low), name
    assert wide["ece"].high > narrow["ece"].high
