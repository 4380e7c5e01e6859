"""Which frames are kept: quotas in any stretch of time, doubt first, cells by turns, and a fair draw."""

from __future__ import annotations

import random
from collections import Counter
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.contract.histogram import bin_of
from device_agent.samples.chooser import DAY_NS, HOUR_NS, MINUTE_NS, Chooser, Chosen, Limits

LIMITS = Limits(per_minute=1, per_hour=12, per_day=60, per_cell=10, random_per_day=0, below=1.0)
SECOND_NS = 10**9


class Seen(NamedTuple):
    cell: int
    log_odds: float = 0.0
    review: bool = False
    number: int = 0


def doubtful(log_odds: float, label: int = 0, *, review: bool = False, number: int = 0) -> Seen:
    return Seen(label * 24 + int(bin_of(log_odds)), log_odds, review, number)


def chooser(limits: Limits = LIMITS, seed: int = 0) -> Chooser[Seen]:
    return Chooser(limits, random.Random(seed), 0)


def most_within(times: list[int], window_ns: int) -> int:
    """The most events in any half-open stretch of the window's length."""
    return max((sum(at <= each < at + window_ns for each in times) for at in times), default=0)


@settings(max_examples=60, deadline=None)
@given(
    limits=st.builds(
        Limits,
        per_minute=st.integers(1, 5),
        per_hour=st.integers(1, 20),
        per_day=st.integers(1, 40),
        per_cell=st.integers(1, 10),
        random_per_day=st.sampled_from([0, 1, 24, 500]),
        below=st.just(1.0),
    ),
    steps=st.lists(
        st.tuples(st.sampled_from([0, 1, 20, 61, 600, 4000, 50_000]), st.integers(1, 30), st.integers(0, 3)),
        min_size=1,
        max_size=60,
    ),
    seed=st.integers(0, 99),
)
def test_no_quota_is_exceeded_in_any_stretch_of_time(limits, steps, seed):
    made, now_ns = chooser(limits, seed), 0
    kept: list[tuple[int, Chosen[Seen]]] = []
    for pause_s, frames, label in steps:
        now_ns += pause_s * SECOND_NS
        for _ in range(frames):
            now_ns += SECOND_NS // 2
            kept += [(now_ns, each) for each in made.offer(doubtful(0.2, label, review=label == 3), now_ns)]
    kept += [(now_ns, each) for each in made.flush(now_ns)]
    low = [at for at, each in kept if each.reason != "random"]
    assert most_within(low, MINUTE_NS) <= limits.per_minute
    assert most_within(low, HOUR_NS) <= limits.per_hour
    assert most_within(low, DAY_NS) <= limits.per_day
    for label in range(4):
        of_cell = [at for at, each in kept if each.reason != "random" and each.frame.cell // 24 == label]
        assert most_within(of_cell, DAY_NS) <= limits.per_cell
    drawn = [at for at, each in kept if each.reason == "random"]
    assert most_within(drawn, DAY_NS) <= limits.random_per_day


def test_a_steady_supply_uses_the_whole_quota_of_a_day_and_a_burst_only_little():
    limits = LIMITS._replace(per_cell=1000)
    made = chooser(limits)
    at = [now for now in range(0, 86_400, 2) for _ in made.offer(doubtful(0.2, now % 7), now * SECOND_NS)]
    assert len(at) == limits.per_day
    assert sum(each < 60 for each in at) <= 1
    assert sum(each < 3600 for each in at) <= limits.per_hour
    assert max(at) > 6 * 3600, "the quota of a day lasts for hours of trouble"


def test_sure_frames_are_not_kept():
    made = chooser()
    assert not [each for now in range(1000) for each in made.offer(doubtful(6.0), now * SECOND_NS)]
    assert made.flush(1000 * SECOND_NS) == []


def test_within_a_look_the_most_doubtful_is_kept_and_review_comes_before_it():
    made = chooser()
    for number, odds in enumerate([0.9, -0.7, 0.4]):
        assert made.offer(doubtful(odds, number=number), number) == []
    (first,) = made.offer(doubtful(9.0), 61 * SECOND_NS)
    assert (first.frame.number, first.reason, first.probability) == (1, "low", None)
    made.offer(doubtful(-0.9), 200 * SECOND_NS)
    made.offer(doubtful(5.0, review=True), 201 * SECOND_NS)
    (second,) = made.flush(300 * SECOND_NS)
    assert second.reason == "review"


def test_cells_with_fewer_frames_come_first():
    made = chooser()
    kept = Counter()
    for now in range(0, 4 * 3600, 2):
        label = 1 if now % 60 == 0 else 0  # one in thirty
        kept.update(each.frame.cell // 24 for each in made.offer(doubtful(0.2, label), now * SECOND_NS))
    assert kept.total() >= 12
    assert abs(kept[0] - kept[1]) <= 2


def test_equals_are_drawn_without_regard_to_their_place_in_the_look():
    places = Counter()
    for seed in range(4000):
        made = chooser(seed=seed)
        for number in range(4):
            made.offer(doubtful(0.2, number=number), number)
        places[made.flush(61 * SECOND_NS)[0].frame.number] += 1
    assert min(places.values()) > 880 and max(places.values()) < 1120  # 1000 expected, 4 standard deviations


@pytest.mark.parametrize("rate", [1, 7])
def test_a_random_frame_is_drawn_fairly_and_says_how_probable_it_was(rate):
    limits, numbers = LIMITS._replace(random_per_day=24), []
    for seed in range(600):
        made = chooser(limits, seed)
        for number in range(12 * rate):
            assert made.offer(doubtful(9.0, number=number), number * 300 * SECOND_NS // rate) == []
        (drawn,) = made.offer(doubtful(9.0), HOUR_NS)
        assert (drawn.reason, drawn.probability) == ("random", 1 / (12 * rate))
        numbers.append(drawn.frame.number / (12 * rate))
    assert abs(np.mean(numbers) - 0.5 + 0.5 / (12 * rate)) < 4 * 0.29 / np.sqrt(600)


def test_horvitz_and_thompson_get_the_true_share_from_random_frames():
    """1 / probability weighs each frame, although the line runs faster in some hours than in others."""
    limits, rng = LIMITS._replace(random_per_day=288), np.random.default_rng(1)
    truth, estimates = [], []
    for seed in range(40):
        made, weights, defects, total = chooser(limits, seed), 0.0, 0, 0
        for hour in range(24):
            step_s, share = (10, 0.3) if hour % 2 else (60, 0.05)
            for second in range(0, 3600, step_s):
                bad = bool(rng.random() < share)
                total, defects = total + 1, defects + bad
                for each in made.offer(doubtful(9.0, number=bad), (hour * 3600 + second) * SECOND_NS):
                    weights += each.frame.number / each.probability
        truth.append(defects / total)
        estimates.append(weights / total)
    error = np.mean(np.array(estimates) - truth)
    assert abs(error) < 4 * np.std(np.array(estimates) - truth) / np.sqrt(40)
    assert abs(error) < 0.02


def test_what_was_taken_before_a_restart_still_counts():
    made = chooser(LIMITS._replace(per_hour=2, per_day=3))
    made.restore([(30 * SECOND_NS, 3), (7200 * SECOND_NS, 3), (2 * DAY_NS, 3)], 0)
    at = [now for now in range(0, 86_400, 5) for _ in made.offer(doubtful(0.2), now * SECOND_NS)]
    assert len([each for each in at if each < 86_400 - 7200]) == 1
    assert min(at) >= 30
