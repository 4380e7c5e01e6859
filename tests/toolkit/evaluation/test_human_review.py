"""Inspection by people, by the model, and by both, for the shares of the line."""

from __future__ import annotations

import pytest

from device_agent.contract.errors import BadInput
from toolkit.evaluation.figures import Figure
from toolkit.evaluation.human_review import HumanReview, compare_ways, parse_review, share_of_defects

FIGURES = {"defect-recall": Figure(0.95, 0.9, 0.98, 100, 50), "false-alarm-rate": Figure(0.02, 0.01, 0.04, 100, 50)}


def test_what_a_thousand_images_cost() -> None:
    review = parse_review("cost=0.05,recall=0.9,false-alarms=0.01,per-hour=500")
    found = compare_ways(FIGURES, review, defects=0.1, prevalence_from="stated")
    people, model, both = found.ways
    assert (people.escapes, people.false_alarms, people.looks, people.cost, people.hours) == pytest.approx(
        (10, 9, 1000, 50, 2)
    )
    assert (model.escapes, model.false_alarms, model.looks, model.cost) == pytest.approx((5, 18, 0, 0))
    assert both.looks == pytest.approx(95 + 18) and both.cost == pytest.approx(0.05 * 113)
    assert both.escapes == pytest.approx(100 * (1 - 0.95 * 0.9)) and both.false_alarms == pytest.approx(0.18)
    assert [one.basis for one in found.ways] == ["stated", "measured", "measured and stated"]


def test_a_precision_becomes_a_false_alarm_rate_at_the_lines_share_of_defects() -> None:
    review = HumanReview(cost=1, recall=0.8, precision=0.5)
    people = compare_ways(FIGURES, review, defects=0.1, prevalence_from="stated").ways[0]
    assert people.false_alarms == pytest.approx(80), "as many as the defects that are found"
    assert people.hours is None
    assert (
        compare_ways(FIGURES, HumanReview(cost=1, recall=0.8), defects=0.1, prevalence_from="").ways[0].false_alarms
        is None
    )


@pytest.mark.parametrize(
    "text",
    ["", "cost=1", "recall=0.9", "cost=1,recall=1.1", "cost=-1,recall=0.9", "cost=1,recall=nan", "cost=inf,recall=0.9",
     "cost=1,recall=0.9,speed=3", "cost=1,cost=2,recall=0.9", "cost=1,recall=0.9,precision=0.9,false-alarms=0.1",
     "cost=1,recall=0.9,per-hour=0", "cost=1,recall"],
)  # fmt: skip
def test_a_statement_that_cannot_be_meant_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="--human-review"):
        parse_review(text)


def test_the_share_of_defects_is_the_lines_where_it_is_stated() -> None:
    assert share_of_defects([0.01, 0.02, 0.97], [True, True, False], 0.6)[0] == pytest.approx(0.03)
    share, where = share_of_defects(None, [True, False], 0.6)
    assert share == 0.6 and "--prevalence" in where


def test_review_without_good_classes_is_refused() -> None:
    with pytest.raises(BadInput, match="good and of defect"):
        compare_ways({}, HumanReview(cost=1, recall=1), defects=0.1, prevalence_from="")
