"""Two models on the same images: tests that go by parts, and intervals that hold the true difference."""

from __future__ import annotations

import numpy as np
import pytest

from toolkit.evaluation.paired import differences, mcnemar


def test_the_exact_test_is_the_binomial_one() -> None:
    from scipy.stats import binomtest

    right_a, right_b = np.arange(50) < 30, (np.arange(50) < 12) | (np.arange(50) >= 28)
    found = mcnemar(right_a, right_b, np.arange(50))
    assert (found.only_a, found.only_b) == (16, 20)
    assert found.p == pytest.approx(binomtest(16, 36).pvalue)
    assert found.p_groups == pytest.approx(found.p, abs=0.05), "each image is a group"


def test_ten_images_of_one_part_are_one_piece_of_evidence() -> None:
    right_a, right_b = np.zeros(40, bool), np.arange(40) < 10
    by_part = mcnemar(right_a, right_b, np.arange(40) // 10)
    assert by_part.p < 0.01 and by_part.p_groups == 1.0


def test_many_groups_are_tested_at_random_and_come_near_the_exact_test() -> None:
    right_a, right_b = np.arange(100) < 20, (np.arange(100) >= 10) & (np.arange(100) < 60)
    found = mcnemar(right_a, right_b, np.arange(100))
    assert found.p_groups == pytest.approx(found.p, rel=0.6, abs=2e-4) and found.p_groups < 0.001


def test_equal_models_have_no_difference_and_no_certainty() -> None:
    truth = np.eye(2, dtype=bool)[np.arange(40) % 2]
    found = differences(truth, truth, truth, np.arange(40), ["a", "b"])
    assert list(found) == ["accuracy", "macro-f1", "balanced-accuracy", "recall.a", "recall.b"]
    one = found["macro-f1"]
    assert (one.a, one.b, one.value) == (1, 1, 0) and -0.15 < one.low < -0.01 < 0.01 < one.high < 0.15
    assert mcnemar(truth[:, 0], truth[:, 0], np.arange(40)).p_groups == 1


def test_95_of_100_intervals_hold_the_true_difference() -> None:
    rng, held = np.random.default_rng(0), np.zeros(2)
    groups = np.arange(320) // 4
    labels = np.repeat(np.arange(80) % 2, 4)
    truth = np.eye(2, dtype=bool)[labels]
    for _ in range(100):
        hard = np.repeat(rng.random(80) < 0.3, 4)
        said = []
        for share in (0.6, 0.8):
            own = np.repeat(rng.random(80) < share, 4)
            said.append(np.eye(2, dtype=bool)[np.where(~hard | own, labels, 1 - labels)])
        found = differences(truth, *said, groups, ["a", "b"], seed=int(rng.integers(1000)))
        held += [one.low <= 0.06 <= one.high for one in (found["accuracy"], found["recall.a"])]
    assert (held >= 90).all() and (held <= 100).all(), held
