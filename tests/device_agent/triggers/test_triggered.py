"""One frame for each part: never that of another part, and every part that is not seen is said."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.classify import classify
from device_agent.contract.manifest import InputSpec
from device_agent.frames import Frame, SourceEnded
from device_agent.recorder import Recorder, Surroundings
from device_agent.triggers import Fired
from device_agent.triggers.firings import MOST_WAITING, Firings
from device_agent.triggers.triggered import Triggered

IMAGE = np.zeros((2, 2, 3), np.uint8)
MS = 1_000_000
WITHIN_MS = 100


class World:
    """Time that passes while somebody waits: frames are captured and parts come at given milliseconds. It is a source
    whose latest frame wins, and a trigger."""

    within_s = WITHIN_MS / 1000

    def __init__(self, captured_ms: list[int], fired_ms: list[int], end_ms: int = 10_000) -> None:
        self.now_ns = 0
        self.frames = [ms * MS for ms in captured_ms]
        self.fired = [Fired(ms * MS, number) for number, ms in enumerate(fired_ms)]
        self._frame = self._part = 0
        self._end_ns = end_ms * MS
        self.missed: list[tuple[int, str]] = []
        self.events: list[tuple[str, str]] = []
        self.refits: list[InputSpec] = []
        self.triggered = Triggered(
            self,
            Waits(self),
            lambda fired, why: self.missed.append((fired.number, why)),
            lambda *one: self.events.append(one),
            clock=lambda: self.now_ns,
        )

    def _sleep(self, until_ns: int | None, timeout_s: float) -> bool:
        """Let time pass until a moment, at most the time-out; is it there?"""
        end_ns = self.now_ns + round(timeout_s * 1e9)
        self.now_ns = max(self.now_ns, end_ns if until_ns is None else min(end_ns, until_ns))
        return until_ns is not None and until_ns <= self.now_ns

    def next(self, timeout_s: float) -> Frame | None:
        if self.now_ns >= self._end_ns:
            raise SourceEnded
        upcoming = self.frames[self._frame] if self._frame < len(self.frames) else None
        if not self._sleep(upcoming, timeout_s):
            return None
        while self._frame + 1 < len(self.frames) and self.frames[self._frame + 1] <= self.now_ns:
            self._frame += 1
        self._frame += 1
        return Frame(IMAGE, 1000 + self._frame, self.frames[self._frame - 1])

    def refit(self, spec: InputSpec) -> None:
        self.refits.append(spec)

    def wait(self, timeout_s: float) -> Fired | None:
        upcoming = self.fired[self._part].at_ns if self._part < len(self.fired) else None
        if not self._sleep(upcoming, timeout_s):
            return None
        self._part += 1
        return self.fired[self._part - 1]

    def run(self, busy_ms: list[int] | None = None) -> list[Frame]:
        """Every frame that is handed on; the reader is busy for `busy_ms` after each."""
        busy = itertools.chain(busy_ms or [], itertools.repeat(0))
        handed = []
        try:
            while True:
                frame = self.triggered.next(0.25)
                if frame is not None:
                    handed.append(frame)
                    self.now_ns += next(busy) * MS
        except SourceEnded:
            return handed


class Waits:
    """The trigger's side of a World."""

    within_s = WITHIN_MS / 1000

    def __init__(self, world: World) -> None:
        self.wait = world.wait

    def close(self) -> None:
        self.closed = True


MOMENTS = st.lists(st.integers(0, 3000), max_size=40).map(sorted)


@settings(max_examples=300, deadline=None)
@given(MOMENTS.map(lambda some: sorted(set(some))), MOMENTS, st.lists(st.integers(0, 500), max_size=20))
def test_no_part_gets_the_frame_of_another_and_each_is_seen_or_missed(
    captured: list[int], fired: list[int], busy: list[int]
) -> None:
    world = World(captured, fired)
    handed = world.run(busy)
    for frame in handed:
        part = world.fired[frame.part or 0]
        assert frame.stamp == frame.part == part.number
        assert part.at_ns <= frame.captured_ns <= part.at_ns + WITHIN_MS * MS
        assert all(later.at_ns > frame.captured_ns for later in world.fired[part.number + 1 :])
    seen, missed = [frame.stamp for frame in handed], [number for number, _ in world.missed]
    assert seen == sorted(set(seen))
    assert sorted(seen + missed) == list(range(len(fired)))
    assert world.triggered.missed == len(missed)


@settings(max_examples=300, deadline=None)
@given(MOMENTS.map(lambda some: sorted(set(some))), MOMENTS)
def test_a_reader_that_is_not_busy_gets_the_first_frame_of_each_part_that_has_one(
    captured: list[int], fired: list[int]
) -> None:
    wanted = {}
    for number, (at, following) in enumerate(zip(fired, [*fired, 1 << 30][1:], strict=True)):
        shows = [ms for ms in captured if at <= ms < following and ms - at <= WITHIN_MS]
        if shows:
            wanted[number] = shows[0] * MS
    assert {frame.stamp: frame.captured_ns for frame in World(captured, fired).run()} == wanted


def test_a_line_that_stands_still_is_looked_at_all_the_same() -> None:
    looked: list[int] = []
    world = World(list(range(0, 9000, 100)), [])
    world.triggered._looked = lambda: looked.append(world.now_ns)
    assert world.triggered.next(8.0) is None
    assert len(looked) > 8 and max(np.diff(looked)) < 1e9


def test_a_frame_from_before_that_waits_in_the_mailbox_is_passed_over() -> None:
    handed = World([100, 200, 300], [250]).run()
    assert [(frame.captured_ns // MS, frame.part) for frame in handed] == [(300, 0)]


def test_of_a_burst_only_the_part_that_the_frame_shows_is_answered() -> None:
    world = World([50, 400], [100, 150, 390])
    assert [frame.part for frame in world.run()] == [2]
    assert [number for number, _ in world.missed] == [0, 1]
    close = World([50, 140], [100, 110, 120])
    assert [frame.part for frame in close.run()] == [2]
    assert close.missed == [(number, "the next part came before a frame") for number in (0, 1)]
    assert close.events == [("missed_part", "part 0: the next part came before a frame")]
    close.triggered.close()
    assert close.events[1:] == [("missed_part", "part 1: the next part came before a frame")]


def test_a_part_is_missed_when_the_camera_gives_nothing_and_when_the_source_ends() -> None:
    world = World([], [100, 9950])
    assert world.run() == []
    assert world.missed == [(0, "no frame within 100 ms"), (1, "the source has ended")]


def test_a_part_that_is_announced_a_little_late_gets_the_frame_that_was_already_seen() -> None:
    world = World([100, 180], [])
    assert world.triggered.next(0.15) is None
    world.fired.append(Fired(99 * MS, 0))
    frame = world.triggered.next(0.25)
    assert frame is not None and frame.captured_ns == 100 * MS


def test_another_input_forgets_the_frame_that_was_seen() -> None:
    world = World([100, 180], [])
    assert world.triggered.next(0.15) is None
    spec = InputSpec(height=2, width=2)
    world.triggered.refit(spec)
    world.fired.append(Fired(99 * MS, 0))
    frame = world.triggered.next(0.25)
    assert frame is not None and frame.captured_ns == 180 * MS and world.refits == [spec]


def test_a_report_counts_parts_that_went_by_as_dropped_and_frames_that_nobody_asked_for_not_at_all() -> None:
    world = World(list(range(0, 2000, 10)), [100, 300, 305, 500, 700])
    recorder = Recorder(b"modelone", 2, 0)
    for frame in world.run():
        recorder.add(frame, classify(np.array([0.0, 1.0], np.float32), 1.0), (1.0, 1.0, 1.0, 1.0))
    report = recorder.close(10**10, Surroundings(0))
    assert (report.frames, report.parts, report.dropped) == (5, 5, 0)
    world = World(list(range(0, 2000, 10)), [100, 301, 302, 500, 700])
    recorder = Recorder(b"modelone", 2, 0)
    for frame in world.run():
        recorder.add(frame, classify(np.array([0.0, 1.0], np.float32), 1.0), (1.0, 1.0, 1.0, 1.0))
    report = recorder.close(10**10, Surroundings(0))
    assert (report.frames, report.parts, report.dropped) == (4, 4, 1)


def test_a_flood_is_bounded_and_every_part_of_it_is_missed_or_seen() -> None:
    told: list[int] = []
    now_ns = [0]
    trigger = Firings(lambda fired: told.append(fired.number), clock=lambda: now_ns[0])
    for _ in range(3 * MOST_WAITING):
        trigger.fire()
    assert trigger._waiting.qsize() == MOST_WAITING and told == list(range(3 * MOST_WAITING))
    missed: list[int] = []
    events: list[Any] = []

    class One:
        def next(self, timeout_s: float) -> Frame | None:
            now_ns[0] += MS
            return Frame(IMAGE, 5, now_ns[0])

        def refit(self, spec: InputSpec) -> None: ...

    triggered = Triggered(
        One(),
        trigger,
        lambda fired, _: missed.append(fired.number),
        lambda *one: events.append(one),
        clock=lambda: now_ns[0],
    )
    frame = triggered.next(0.25)
    assert frame is not None and frame.part == 3 * MOST_WAITING - 1
    assert sorted(missed) == list(range(3 * MOST_WAITING - 1)) and len(events) == 1


def test_what_the_source_raises_is_raised() -> None:
    world = World([], [], end_ms=0)
    with pytest.raises(SourceEnded):
        world.triggered.next(1.0)
