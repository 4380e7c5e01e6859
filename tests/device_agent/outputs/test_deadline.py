"""Exactly one answer for each part, on time, whatever the caller of `put` is stuck in."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from device_agent.contract.review import Verdict
from device_agent.outputs.deadline import MOST_PENDING, Deadline, no_answer

AFTER_MS = 50
Eventually = Callable[..., object]


class Bench:
    """A deadline whose clock and thread are moved by hand."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.out: list[tuple[int, Verdict]] = []
        self.events: list[tuple[str, str]] = []
        self.deadline = Deadline(
            lambda one: self.out.append((self.now_ns, one)),
            AFTER_MS,
            "reject",
            event=lambda *one: self.events.append(one),
            clock=lambda: self.now_ns,
        )

    def pass_ms(self, ms: float) -> None:
        self.now_ns += int(ms * 1e6)

    def put(self, frame: int) -> None:
        self.deadline.put(Verdict(frame, "good", "good", 0.9, 2.0, 0, decision="pass"))

    @property
    def told(self) -> list[tuple[int, str, bool]]:
        return [(one.frame, str(one.decision), one.late) for _, one in self.out]


STEP = st.one_of(
    st.just(("expect", 0)),
    st.tuples(st.just("put"), st.integers(0, 5)),
    st.tuples(st.just("safe"), st.integers(0, 5)),
    st.tuples(st.just("again"), st.integers(0, 5)),
    st.tuples(st.just("pass"), st.sampled_from([0.0, 1.0, 20.0, 49.0, 50.0, 200.0])),
    st.just(("tick", 0)),
    st.just(("close", 0)),
)


@settings(max_examples=500, deadline=None)
@given(st.lists(STEP, max_size=60))
def test_every_expected_frame_gets_exactly_one_answer(steps: list[tuple[str, float]]) -> None:
    bench = Bench()
    expected: list[int] = []
    captured: dict[int, int] = {}
    closed = False
    for what, value in steps:
        recent = expected[-1 - int(value)] if what in ("put", "safe", "again") and len(expected) > value else None
        if what == "expect" and not closed:
            frame = len(expected)
            expected.append(frame)
            captured[frame] = bench.now_ns
            bench.deadline.expect(frame, bench.now_ns, frame)
        elif what == "put" and recent is not None:
            bench.put(recent)
        elif what == "safe" and recent is not None:
            bench.deadline.put(no_answer(recent, 0, None, "no artifact serves", "review", late=False))
        elif what == "again" and recent is not None:
            bench.deadline.expect(recent, bench.now_ns, recent)
        elif what == "pass":
            bench.pass_ms(value)
        elif what == "tick":
            bench.deadline.answer_due()
        elif what == "close":
            bench.deadline.close()
            closed = True
    bench.pass_ms(1000)
    bench.deadline.answer_due()
    counts = Counter(one.frame for _, one in bench.out)
    assert counts == dict.fromkeys(expected, 1)
    for at_ns, one in bench.out:
        if one.late and one.reason != "the agent ends":
            assert at_ns >= captured[one.frame] + AFTER_MS * 1e6 and one.decision == "reject"


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 150)), max_size=20))
def test_with_a_clock_that_is_looked_at_each_millisecond_each_answer_is_on_time(frames: list[tuple[int, int]]) -> None:
    """Each frame is captured `gap` ms after the one before, and its inference takes `spent` ms."""
    bench = Bench()
    starts, answers, at = {}, {}, 0
    for frame, (gap, spent) in enumerate(frames):
        at += gap
        starts.setdefault(at, []).append(frame)
        answers.setdefault(at + spent, []).append(frame)
    captured = {frame: ms for ms, some in starts.items() for frame in some}
    for ms in range(at + 300):
        bench.now_ns = ms * 1_000_000
        for frame in starts.get(ms, []):
            bench.deadline.expect(frame, bench.now_ns)
        for frame in answers.get(ms, []):
            bench.put(frame)
        bench.deadline.answer_due()
    assert sorted(one.frame for _, one in bench.out) == list(range(len(frames)))
    spent_ms = {frame: spent for frame, (_, spent) in enumerate(frames)}
    for at_ns, one in bench.out:
        waited_ms = at_ns / 1e6 - captured[one.frame]
        assert waited_ms == min(AFTER_MS, spent_ms[one.frame])
        assert one.late == (spent_ms[one.frame] > AFTER_MS)


def test_the_verdict_that_comes_after_the_late_answer_is_counted_and_not_sent() -> None:
    bench = Bench()
    bench.deadline.expect(7, 0, 3)
    bench.pass_ms(AFTER_MS)
    bench.deadline.answer_due()
    bench.put(7)
    assert bench.told == [(7, "reject", True)]
    late = bench.out[0][1]
    assert (late.reason, late.part, late.label, late.role) == ("no answer within 50 ms", 3, "", "")
    assert (bench.deadline.late, bench.deadline.suppressed) == (1, 1)
    assert bench.events == [("verdict_late", "frame 7: no answer within 50 ms, the line was told reject")]


def test_the_time_runs_from_the_capture_not_from_the_announcement() -> None:
    bench = Bench()
    bench.pass_ms(100)
    bench.deadline.expect(0, 50_000_000)
    bench.deadline.answer_due()
    assert bench.told == [(0, "reject", True)]


def test_a_verdict_that_nobody_announced_is_sent_once() -> None:
    bench = Bench()
    bench.put(4)
    bench.put(4)
    assert bench.told == [(4, "pass", False)] and bench.deadline.suppressed == 1


def test_lateness_that_lasts_is_said_once_a_minute_with_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    now_s = [0.0]
    monkeypatch.setattr(bench.deadline._told, "_clock", lambda: now_s[0])
    for frame in range(100):
        bench.deadline.expect(frame, bench.now_ns)
        bench.pass_ms(AFTER_MS)
        bench.deadline.answer_due()
    assert len(bench.events) == 1
    now_s[0] = 61.0
    bench.put(1000)
    assert [text for _, text in bench.events][1:] == [
        "frame 99: no answer within 50 ms, the line was told reject; 99 times since this was last said"
    ]


def test_a_flood_of_announcements_is_bounded_and_each_is_answered() -> None:
    bench = Bench()
    for frame in range(MOST_PENDING + 100):
        bench.deadline.expect(frame, 0)
    assert len(bench.deadline._pending) == MOST_PENDING
    assert bench.told == [(frame, "reject", True) for frame in range(100)]
    assert len(bench.events) == 1


def test_the_end_answers_what_is_expected() -> None:
    bench = Bench()
    bench.deadline.expect(1, 0)
    bench.deadline.close()
    bench.deadline.expect(2, 0)
    assert bench.told == [(1, "reject", True)] and bench.out[0][1].reason == "the agent ends"


def test_an_inference_that_hangs_does_not_keep_the_answer(eventually: Eventually) -> None:
    out: list[Verdict] = []
    deadline = Deadline(out.append, 20, "review", event=lambda *_: None)
    deadline.start()
    released = threading.Event()

    def loop() -> None:
        deadline.expect(0, time.monotonic_ns())
        released.wait(30)
        deadline.put(Verdict(0, "good", "good", 0.9, 2.0, 0, decision="pass"))

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    eventually(lambda: out)
    released.set()
    thread.join(10)
    deadline.close()
    assert [(one.late, one.decision) for one in out] == [(True, "review")]
    assert deadline.suppressed == 1


def test_a_deadline_that_is_earlier_than_the_one_waited_for_is_kept(eventually: Eventually) -> None:
    out: list[Verdict] = []
    deadline = Deadline(out.append, 20, "review", event=lambda *_: None)
    deadline.start()
    deadline.expect(0, time.monotonic_ns() + 3600 * 10**9)
    eventually(lambda: deadline._wake_ns > time.monotonic_ns())
    deadline.expect(1, time.monotonic_ns())
    eventually(lambda: out)
    assert [one.frame for one in out] == [1]
    deadline.close()


def test_under_threads_that_race_each_frame_has_one_answer_in_order() -> None:
    out: list[Verdict] = []
    deadline = Deadline(out.append, 1, "review", event=lambda *_: None)
    deadline.start()
    for frame in range(1000):
        deadline.expect(frame, time.monotonic_ns() - 900_000 + frame * 200)  # due about when the verdict comes
        deadline.put(Verdict(frame, "good", "good", 0.9, 2.0, 0, decision="pass"))
    deadline.close()
    assert [one.frame for one in out] == list(range(1000))
    assert deadline.late == deadline.suppressed == sum(one.late for one in out)


def test_an_answer_that_nobody_has_can_be_no_decision() -> None:
    assert no_answer(0, 0, None, "no artifact serves", "none", late=False).decision is UNSET
