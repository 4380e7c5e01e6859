"""Windows of silence: when they hold, every week too, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.contract.errors import BadInput, NotFound
from fleet.matching import Facts, Matcher, parse_matcher
from fleet.silences import (
    WEEK_MS,
    Silence,
    add_silence,
    end_changeovers,
    expire_silence,
    find_silence,
    read_silences,
)

FACTS = Facts("page", ("hall",), ("cam-1",), ("pi 4",), ("tin",), ("ab12", "steel"), ("def-:scratch",), ("scratch",))


def planned(kind="maintenance", **fields):
    given_ = {"id": "s1", "from_ms": 1000, "until_ms": 5000, "reason": "oil", "who": "ann", "made_ms": 0, **fields}
    return Silence(kind=kind, matcher=Matcher(), **given_)


@given(st.integers(0, 10 * WEEK_MS), st.integers(1, WEEK_MS))
def test_a_weekly_window_holds_in_each_week_for_as_long(now_ms, long_ms):
    silence = planned(weekly=True, from_ms=0, until_ms=long_ms)
    window = silence.window(now_ms)
    assert (window is not None) == (now_ms % WEEK_MS < long_ms)
    if window:
        assert window[0] <= now_ms < window[1] and window[1] - window[0] == long_ms and window[0] % WEEK_MS == 0


def test_a_window_ends_when_it_is_ended_by_hand():
    silence = planned(expired_ms=2000)
    assert silence.window(1999) and not silence.window(2000) and silence.over(3000)
    assert silence.last_end(3000) == 2000 and planned(expired_ms=500).last_end(9000) is None
    assert planned().last_end(4999) is None and planned().last_end(5000) == 5000


@pytest.mark.parametrize(("terms", "fits"), [
    (("site=ha*", "stream=def-*"), True), (("label=scratch",), True), (("device_type=pi*", "model=steel"), True),
    (("site=yard", "site=hall"), True), (("site=yard",), False), (("label=dent",), False), (("site=HALL",), False),
])  # fmt: skip
def test_a_matcher_asks_for_every_field_and_any_pattern(terms, fits):
    assert parse_matcher(terms).fits(FACTS) is fits


@pytest.mark.parametrize("term", ["site", "place=x", "site=", "=x", "", "site=" + "x" * 300])
def test_a_term_that_is_none_is_refused(term):
    with pytest.raises(BadInput, match="must read like site=hall-2"):
        parse_matcher((term,))


def test_the_longest_of_several_silences_counts_and_a_changeover_holds_until_its_baseline():
    found = find_silence([planned(), planned(id="s2", until_ms=9000)], FACTS, 4000)
    assert found and (found[0].id, found[1]) == ("s2", 9000)
    assert find_silence([planned()], FACTS, 5000) is None
    assert find_silence([planned("changeover")], FACTS, 5000 + 59_999)
    assert find_silence([planned("changeover")], FACTS, 5000 + 60_000) is None


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"until_ms": 0}, "must end after it begins"),
        ({"from_ms": 0, "until_ms": 5}, "and after now"),
        ({"until_ms": 400 * 86_400_000}, "lasts too long"),
        ({"until_ms": 9 * 86_400_000, "weekly": True}, "lasts too long"),
        ({"reason": " "}, "say why"),
        ({"who": ""}, "who in 1 to 64"),
        ({"who": "x" * 65}, "who in 1 to 64"),
    ],
)
def test_what_is_no_silence_is_refused(plant, fields, says):
    given_ = {"from_ms": 10, "until_ms": 100, "reason": "oil", "who": "ann", "now_ms": 10, **fields}
    with plant.open().begin() as tx, pytest.raises(BadInput, match=says):
        add_silence(tx, "silence", Matcher(), **given_)


def test_a_weekly_changeover_is_ended_once_in_every_week(plant):
    engine = plant.open(places={"cam-1": ("hall", "tin"), "cam-2": ("yard", "tin")})
    with engine.begin() as tx:
        add_silence(tx, "changeover", Matcher(site=["hall"]), from_ms=1000, until_ms=5000, weekly=True, reason="tin",
                    who="ann", now_ms=0)  # fmt: skip
        asked = [end_changeovers(tx, at) for at in (0, 4999, 5000, 6000, WEEK_MS, WEEK_MS + 5000, WEEK_MS + 5001)]
    assert asked == [0, 0, 1, 0, 0, 1, 0]


def test_silences_are_read_and_ended_by_their_ids(plant):
    with plant.open().begin() as tx:
        made = add_silence(tx, "silence", Matcher(site=["a"]), from_ms=0, until_ms=99, reason="x", who="y", now_ms=0)
        assert read_silences(tx) == [made]
        expire_silence(tx, made.id, 50)
        for silence_id in (made.id, "nothing"):
            with pytest.raises(NotFound, match="that is not over"):
                expire_silence(tx, silence_id, 60)
