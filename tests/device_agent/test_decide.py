"""What becomes of a part: by its defect score, at the edges of the band, and never passed without a score."""

from __future__ import annotations

import numpy as np
import pytest

from device_agent.contract.errors import BadInput
from device_agent.contract.manifest import Decision, Label
from device_agent.decide import decide, defect_log_odds

LABELS = [Label("crack", "defect"), Label("fine", "good"), Label("pit", "defect"), Label("oily", "good")]
GOOD = np.array([label.role == "good" for label in LABELS])
DECISION = Decision(
    low=-1.0,
    high=2.0,
    scale=[0.5, 0.5, 1.0, 0.5],
    shift=[0.0, 1.0, -1.0, 0.0],
    prevalence=[0.01, 0.9, 0.01, 0.08],
    confidence=0.95,
)


def test_the_score_is_the_odds_of_all_defects_against_all_good_classes():
    logits = np.random.default_rng(0).normal(0, 3, (50, 4)).astype(np.float32)
    chance = np.exp(logits.astype(float) * DECISION.scale + DECISION.shift)
    odds = chance[:, ~GOOD].sum(axis=1) / chance[:, GOOD].sum(axis=1)
    found = defect_log_odds(logits, DECISION.scale, DECISION.shift, GOOD)
    assert np.ptp(found) > 3
    assert found == pytest.approx(np.log(odds))


def test_logits_that_no_exponential_can_take_still_have_a_score():
    odds = defect_log_odds(np.array([[3000.0, -3000, 0, 0], [-3000, 3000, 0, 0]]), [1] * 4, [0] * 4, GOOD)
    assert odds == pytest.approx([3000, -3000])


@pytest.mark.parametrize(
    ("odds", "fate"), [(-1.001, "pass"), (-1.0, "review"), (1.999, "review"), (2.0, "reject"), (9, "reject")]
)
def test_the_edges_of_the_band_belong_above(odds, fate):
    decision = Decision(low=-1, high=2, scale=[1, 1], shift=[0, 0], prevalence=[0.5, 0.5], confidence=0.9)
    assert decide(np.array([odds, 0.0]), decision, [LABELS[0], LABELS[1]]) == fate


def test_a_band_without_width_sends_nobody_to_a_person():
    decision = Decision(low=0, high=0, scale=[1, 1], shift=[0, 0], prevalence=[0.5, 0.5], confidence=0.9)
    fates = {decide(np.array([odds, 0.0]), decision, LABELS[:2]) for odds in np.linspace(-3, 3, 61)}
    assert fates == {"pass", "reject"}


def test_a_part_whose_score_is_no_number_is_not_passed():
    decision = Decision(low=0, high=1, scale=[1e308, 1e308], shift=[0, 0], prevalence=[0.5, 0.5], confidence=0.9)
    with np.errstate(over="ignore", invalid="ignore"):
        assert decide(np.array([1e3, 1e3]), decision, LABELS[:2]) == "review"


def test_classes_of_one_role_leave_nothing_to_decide():
    with pytest.raises(BadInput, match="every class is good, there is nothing to decide"):
        DECISION.check([Label(name, "good") for name in "abcd"])
