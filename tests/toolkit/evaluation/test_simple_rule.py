"""A simple rule is found where one does, and is no match where none does."""

from __future__ import annotations

import numpy as np
import pytest

from toolkit.evaluation.answers import Answers, answers_of
from toolkit.evaluation.figures import Judged
from toolkit.evaluation.scores import judge
from toolkit.evaluation.simple_rule import FEATURES, against_simple_rule, describe_pictures
from toolkit.runs import Run


@pytest.fixture
def asked(tiny_run: Run) -> tuple[Judged, Answers]:
    answers = answers_of(tiny_run, "onnx-fp32", "val")
    return judge(tiny_run, answers, 1.0), answers


def test_images_told_apart_by_brightness_need_no_network(tiny_run: Run, asked: tuple[Judged, Answers]) -> None:
    found = against_simple_rule(tiny_run, *asked)
    assert found.decides == "defect" and found.depth == 2, "good lies between bright and dark"
    assert found.chosen_by["depth 2"] > found.chosen_by["depth 1"]
    assert found.verdict.startswith("a simple rule may do") and found.images == 60
    assert found.defect_recall is not None and found.defect_recall.value > 0.8
    assert len(found.rule) in (3, 4) and {line.rpartition(": ")[2] for line in found.rule} == {"good", "defect"}


def test_a_model_that_sees_more_is_said_to(tiny_run: Run, asked: tuple[Judged, Answers]) -> None:
    judged, answers = asked
    right = 9 * np.eye(3)[judged.labels]
    perfect = Judged(
        logits=right,
        probabilities=right,
        labels=judged.labels,
        groups=judged.groups,
        names=judged.names,
        roles=judged.roles,
    )
    found = against_simple_rule(tiny_run, perfect, answers)
    assert found.verdict.startswith("the model is better") and found.gain["balanced-accuracy"].low > 0


def test_without_good_classes_it_decides_the_class(tiny_run: Run, asked: tuple[Judged, Answers]) -> None:
    judged, answers = asked
    defects = Judged(
        logits=judged.logits,
        probabilities=judged.probabilities,
        labels=judged.labels,
        groups=judged.groups,
        names=judged.names,
        roles=["defect"] * 3,
    )
    found = against_simple_rule(tiny_run, defects, answers)
    assert found.decides == "class" and found.defect_recall is None and "recall.dark" in found.gain
    assert {line.rpartition(": ")[2] for line in found.rule} == {"bright", "dark", "good"}


def test_features_tell_brightness_contrast_and_edges_apart() -> None:
    images = np.zeros((4, 16, 16, 3), np.uint8)
    images[1] = 100
    images[2, :, 8:] = 200
    images[3, :, ::2] = 200
    found = dict(zip(FEATURES, describe_pictures(images).T, strict=True))
    assert found["brightness"].tolist() == [0, 100, 100, 100]
    assert found["contrast"].tolist() == [0, 0, 100, 100] and found["brightest"].tolist() == [0, 100, 200, 200]
    assert found["edges"][1] == 0 < found["edges"][2] and not found["redness"].any()
    images[1, ..., 2] = 0
    assert describe_pictures(images)[1, -1] == 100
    assert describe_pictures(images[..., :1]).shape == (4, 6)
