"""The benchmark of the operating point: its truth is the truth, and its rows say what was missed."""

from __future__ import annotations

import numpy as np
import pytest

BENCHMARK = "operating_point"


def test_the_stated_truth_is_the_share_of_simulated_defects_below_the_threshold(script):
    drawn = script.World(4000, "1 to 7", 0.5, 2.7).draw(np.random.default_rng(0))
    scores = drawn.answers.logits[:, 1]
    for threshold in (-1.0, 0.0, 2.0):
        found = np.mean(scores[drawn.answers.labels == 1] < threshold)
        assert found == pytest.approx(drawn.escape(threshold), rel=0.12)


def test_a_row_is_missed_when_the_bound_lies_under_the_truth_too_often(script):
    def outcomes(upper: float) -> list:
        return [script.Outcome(0.05, dict.fromkeys(script.WAYS, upper), 900, 300)] * 10

    assert script.line("x", outcomes(0.08)).endswith("| met |")
    assert script.line("x", outcomes(0.04)).endswith("| missed |")
    assert script.line("x", outcomes(0.12)).endswith("| missed |"), "over twice the truth"
    few = [each._replace(groups=100) for each in outcomes(0.12)]
    assert script.line("x", few).endswith("| missed: few parts* |"), "five escape: no honest bound is tighter"
    covered_not = [each._replace(groups=100) for each in outcomes(0.04)]
    assert script.line("x", covered_not).endswith("| missed |"), "few parts excuse no bound that does not hold"


def test_a_resampling_of_few_parts_is_judged_by_the_products_own_code(script):
    rng = np.random.default_rng(1)
    found = [script.outcome(script.World(60, "1", 0.0, 2.7).draw(rng), script.COSTS) for _ in range(20)]
    assert np.mean([one.bounds["kept"] >= one.truth for one in found]) >= 0.8
    assert all(0 < one.truth < 0.6 and one.groups == 60 for one in found)
