"""No statistic alone asks for a retraining; exact intervals; ids that come of what is asked for."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.contract.alert import Evidence, Trigger
from device_agent.contract.errors import BadInput
from fleet.triggers.evidence import (
    check_grounds,
    exact_interval,
    golden_evidence,
    labelled_evidence,
    shows_a_fall,
    tail,
    trigger_id,
)

STATISTIC = Evidence(kind="statistic", figure="pages", value=40, low=38, high=42, expected=1, n=500)


def trigger(reason, *evidence, **fields):
    return Trigger(id="t", model="0f", reason=reason, created_ms=0, evidence=list(evidence), **fields)


@given(st.integers(0, 60), st.integers(1, 60), st.floats(0.001, 0.999))
def test_a_tail_is_the_sum_of_its_terms(least, trials, share):
    terms = [math.comb(trials, k) * share**k * (1 - share) ** (trials - k) for k in range(least, trials + 1)]
    assert tail(least, trials, share) == pytest.approx(math.fsum(terms), rel=1e-9, abs=1e-12)


@given(st.integers(0, 300), st.integers(1, 300))
def test_the_limits_of_a_share_leave_an_eighth_of_a_fortieth_at_no_side(events, trials):
    events = min(events, trials)
    low, high = exact_interval(events, trials)
    assert 0 <= low <= events / trials <= high <= 1
    if events:
        assert tail(events, trials, low) == pytest.approx(0.025, rel=1e-6)
    if events < trials:
        assert 1 - tail(events + 1, trials, high) == pytest.approx(0.025, rel=1e-6)


@pytest.mark.parametrize(("events", "trials"), [(1, 0), (-1, 5), (6, 5), (1, 10**10)])
def test_what_is_no_count_is_refused(events, trials):
    with pytest.raises(BadInput, match="must be a count out of"):
        exact_interval(events, trials)


def test_the_limits_of_a_million_are_those_of_the_normal_distribution():
    low, high = exact_interval(500_000, 1_000_000)
    assert (0.5 - low, high - 0.5) == pytest.approx((0.00098, 0.00098), abs=2e-6)


@pytest.mark.parametrize("reason", ["labels", "golden", "rule"])
def test_a_statistic_alone_asks_for_nothing(reason):
    with pytest.raises(BadInput, match=r"needs"):
        check_grounds(trigger(reason, STATISTIC, rule="many pages"))


def test_labels_ask_only_when_they_show_a_fall():
    fallen, steady = labelled_evidence(170, 200, 0.95), labelled_evidence(186, 200, 0.95)
    assert shows_a_fall(fallen) and not shows_a_fall(steady)
    check_grounds(trigger("labels", STATISTIC, fallen))
    for evidence in (steady, golden_evidence(6, 12, claim=0.95)):
        with pytest.raises(BadInput, match="needs labelled evidence whose 95 % interval"):
            check_grounds(trigger("labels", evidence))


def test_golden_parts_ask_when_more_of_them_fail_than_is_claimed():
    check_grounds(trigger("golden", golden_evidence(4, 12, claim=0.95)))
    check_grounds(trigger("golden", golden_evidence(1, 12)))
    with pytest.raises(BadInput, match="needs golden evidence"):
        check_grounds(trigger("golden", golden_evidence(1, 12, claim=0.9)))


def test_a_person_gives_a_name_and_a_reason():
    check_grounds(trigger("person", created_by="ann", text="new supplier"))
    for fields in ({"created_by": "ann"}, {"text": "new supplier"}, {"created_by": " ", "text": "x"}):
        with pytest.raises(BadInput, match="gives a name and a reason"):
            check_grounds(trigger("person", STATISTIC, **fields))


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_evidence_that_is_no_number_is_refused(number):
    with pytest.raises(BadInput, match="pages has a number that is none"):
        check_grounds(
            trigger("person", Evidence(kind="statistic", figure="pages", value=number), created_by="a", text="b")
        )


def test_an_id_is_of_what_is_asked_for_and_of_nothing_else():
    asked = [("a", "golden", "", 0), ("b", "golden", "", 0), ("a", "labels", "", 0), ("a", "golden", "x", 0)]
    ids = {trigger_id(*each, 1) for each in asked} | {trigger_id("a", "golden", "", 1, 2)}
    assert len(ids) == 5 and trigger_id("a", "golden", "", 0, 1) in ids
