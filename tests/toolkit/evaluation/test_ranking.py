"""Average precision is that of scikit-learn, whatever the order of the files, and its interval covers."""

from __future__ import annotations

import numpy as np
import pytest

from toolkit.evaluation.ranking import average_precision, average_precision_interval, precision_recall, top_rows


def test_it_is_scikit_learn_s_also_with_ties() -> None:
    from sklearn.metrics import average_precision_score, precision_recall_curve

    rng = np.random.default_rng(0)
    truth = rng.random(300) < 0.2
    scores = np.round(truth * 0.3 + rng.random(300), 1)
    assert average_precision(truth, scores) == pytest.approx(average_precision_score(truth, scores))
    precision, recall, thresholds = precision_recall(truth, scores)
    expected = precision_recall_curve(truth, scores)
    np.testing.assert_allclose(precision, expected[0][:-1][::-1])
    np.testing.assert_allclose(recall, expected[1][:-1][::-1])
    np.testing.assert_allclose(thresholds, expected[2][::-1])


def test_equal_scores_count_together_in_any_order() -> None:
    truth = np.array([True, True, False, False])
    assert average_precision(truth, np.ones(4)) == average_precision(~truth, np.ones(4)) == 0.5


def test_a_perfect_ranking_of_few_groups_is_not_certain() -> None:
    truth = np.arange(60) < 20
    rng = np.random.default_rng(0)
    low, high = average_precision_interval(truth, truth.astype(float), np.arange(60) // 5, rng=rng)
    alone, _ = average_precision_interval(truth, truth.astype(float), np.arange(60), rng=rng)
    assert high == 1 and low < 0.75 and alone > low + 0.1


def test_95_of_100_intervals_hold_the_true_value() -> None:
    rng = np.random.default_rng(2)

    def draw(groups: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        group = np.arange(groups * 4) // 4
        truth = np.repeat(rng.random(groups) < 0.3, 4)
        return truth, truth * 1.2 + 0.6 * rng.normal(size=groups)[group] + 0.8 * rng.normal(size=groups * 4), group

    true = average_precision(*draw(20_000)[:2])
    held = []
    for _ in range(150):
        low, high = average_precision_interval(*draw(60), rng=rng, draws=200)
        held.append(low <= true <= high)
    assert 0.5 < true < 0.8
    assert 0.9 <= np.mean(held) <= 0.99, np.mean(held)


def test_the_top_share_is_at_least_one_image() -> None:
    assert top_rows(np.array([0.1, 0.7, 0.3]), 0.05).tolist() == [1]
    assert len(top_rows(np.random.default_rng(0).random(200), 0.05)) == 10
