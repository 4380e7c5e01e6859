"""The watchdog is fed while the agent works or has said why it does not, and never by a loop that hangs."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.service.notify import Notifier
from device_agent.service.watchdog import EXCUSES, RETURNS, Bounds, Progress, Watchdog

BOUNDS = Bounds()
ALL = ("tick", "courier", "frame", "stored", "acked")


def after(seconds: float, moving: str, *before: str) -> tuple[bool, str]:
    """What is judged after so long, in which only the `moving` went on and `before` had happened first: names of
    Progress's methods, or kinds of events."""
    now = [100.0]
    progress = Progress(BOUNDS, lambda: now[0])
    for one in before:
        progress.excuse(one) if one in EXCUSES or one in RETURNS else getattr(progress, one)()
    end = now[0] + seconds
    while now[0] < end:
        now[0] += 1.0
        for one in moving.split():
            getattr(progress, one)()
    return progress.check()


@pytest.mark.parametrize(
    ("seconds", "moving", "before", "fed", "words"),
    [
        (5000, "tick courier frame stored acked", [], True, ""),
        (0, "", [], True, ""),
        # the loop has no excuse
        (14, "courier", [], True, ""),
        (16, "courier", [], False, "no turn of the loop for 16 s"),
        (16, "courier frame stored acked", list(EXCUSES), False, "no turn of the loop"),
        (121, "tick", ["camera_lost", "no_broker"], False, "no turn of the courier"),
        # frames
        (59, "tick courier", [], True, ""),
        (61, "tick courier", [], False, "no answered frame for 61 s"),
        (5000, "tick courier stored", ["camera_lost", "no_broker"], True, ""),
        (61, "tick courier", ["camera_lost", "frame"], False, "no answered frame"),
        (61, "tick courier", ["camera_lost", "camera_found"], False, "no answered frame"),
        (61, "tick courier", ["broker_unreachable"], False, "no answered frame"),
        (61, "tick courier", ["breaker_open"], True, ""),
        # reports
        (301, "tick courier frame", [], False, "no report for 301 s"),
        (5000, "tick courier frame", ["spool_unwritable"], True, ""),
        (301, "tick courier frame", ["spool_unwritable", "spool_writable"], False, "no report"),
        # acknowledgements
        (3700, "tick courier frame stored", [], True, "no acknowledgement for 3699 s"),
        (3700, "tick courier frame stored", ["broker_unreachable"], True, ""),
        (3700, "tick courier frame stored", ["broker_unreachable", "broker_connected"], True, "no acknowledgement"),
        (3700, "tick courier frame stored", ["no_broker"], True, ""),
    ],
)  # fmt: skip
def test_what_stands_still_is_excused_by_what_was_said_of_it_alone(seconds, moving, before, fed, words):
    judgement = after(seconds, moving, *before)
    assert judgement.fed is fed
    assert judgement.said.startswith(words) and bool(judgement.said) == bool(words)


def test_an_acknowledgement_is_due_only_after_a_report():
    now = [0.0]
    progress = Progress(BOUNDS._replace(report_s=1e9), lambda: now[0])

    def go_on(seconds):
        now[0] += seconds
        for one in ("tick", "courier", "frame"):
            getattr(progress, one)()
        return progress.check()

    assert go_on(4000) == (True, "")
    progress.stored()
    assert go_on(3599) == (True, "")
    progress.acked()
    progress.stored()
    assert go_on(3599) == (True, "") and "no acknowledgement" in go_on(2).said
    assert go_on(4000) == (True, ""), "said once"
    progress.acked()
    assert go_on(4000) == (True, "")


def test_a_loop_that_loads_a_model_may_be_silent_for_a_bounded_time():
    now = [0.0]
    progress = Progress(BOUNDS, lambda: now[0])
    progress.busy(1e9)
    for now[0] in range(0, 300, 10):
        progress.courier()
        assert progress.check().fed
    now[0] = 301.0
    assert not progress.check().fed
    progress.tick(), progress.frame(), progress.stored()
    assert progress.check().fed
    now[0] += 16
    assert not progress.check().fed, "its next turn ended that"


STEPS = st.lists(st.tuples(st.floats(0, 400), st.sampled_from([*ALL, *EXCUSES, *RETURNS])), max_size=60)


@settings(deadline=None)
@given(STEPS)
def test_whatever_else_happens_a_loop_that_hangs_is_not_fed(steps):
    now = [0.0]
    progress = Progress(BOUNDS, lambda: now[0])
    turned = 0.0
    for wait_s, what in steps:
        now[0] += wait_s
        progress.excuse(what) if what in EXCUSES or what in RETURNS else getattr(progress, what)()
        turned = now[0] if what == "tick" else turned
        if now[0] - turned > BOUNDS.loop_s:
            assert not progress.check().fed


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 14.9), st.sampled_from(sorted(EXCUSES) + sorted(RETURNS))), max_size=60))
def test_whatever_is_said_an_agent_that_works_is_fed(steps):
    now = [0.0]
    progress = Progress(BOUNDS, lambda: now[0])
    for wait_s, said in steps:
        now[0] += wait_s
        for one in ALL:
            getattr(progress, one)()
        progress.excuse(said)
        assert progress.check() == (True, "")


class Manager(Notifier):
    """Notes what it is told."""

    def __init__(self) -> None:
        super().__init__({})
        self.heard: list[str] = []

    def watchdog(self) -> None:
        self.heard.append("fed")

    def status(self, text: str) -> None:
        self.heard.append(text)


@pytest.mark.parametrize("jump_s", [3600, -3600, 10 * 365 * 86_400, -10 * 365 * 86_400])
def test_no_jump_of_the_wall_clock_fires_it(monkeypatch, jump_s, eventually):
    manager, said = Manager(), []
    progress = Progress(Bounds())
    real = time.time
    watchdog = Watchdog(manager, progress, lambda kind, text: said.append(text), interval_s=0.01)
    eventually(lambda: len(manager.heard) > 2)
    monkeypatch.setattr(time, "time", lambda: real() + jump_s)
    monkeypatch.setattr(time, "time_ns", lambda: int((real() + jump_s) * 1e9))
    seen = len(manager.heard)
    eventually(lambda: len(manager.heard) > seen + 5)
    watchdog.close()
    assert set(manager.heard) == {"fed"} and said == []


def test_a_hang_is_said_once_and_ends_the_feeding_though_every_other_thread_lives(eventually):
    manager, said = Manager(), []
    progress = Progress(BOUNDS._replace(loop_s=0.2))
    ended = threading.Event()

    def live_on():
        while not ended.wait(0.01):
            progress.courier(), progress.frame(), progress.stored(), progress.acked()

    thread = threading.Thread(target=live_on)
    thread.start()
    watchdog = Watchdog(manager, progress, lambda kind, text: said.append((kind, text)), interval_s=0.02)
    try:
        eventually(lambda: said)
        fed = manager.heard.count("fed")
        assert fed > 0 and said[0][0] == "watchdog" and said[0][1].startswith("no turn of the loop")
        for _ in range(5):
            watchdog.turn()
        assert manager.heard.count("fed") == fed and len(said) == 1 and manager.heard[-1] == said[0][1]
        progress.tick()
        eventually(lambda: manager.heard.count("fed") > fed)
        assert len(said) == 1
        eventually(lambda: len(said) == 2), "another hang is another event"
    finally:
        ended.set()
        thread.join()
        watchdog.close()


def test_a_silent_monitor_is_said_and_the_agent_is_fed_on():
    now, manager, said = [0.0], Manager(), []
    progress = Progress(
        BOUNDS._replace(ack_s=5.0, courier_s=1e9, loop_s=1e9, frame_s=1e9, report_s=1e9), lambda: now[0]
    )
    watchdog = Watchdog(manager, progress, lambda kind, text: said.append(kind), interval_s=1e6)
    progress.stored()
    now[0] = 6.0
    for _ in range(3):
        watchdog.turn()
    watchdog.close()
    assert said == ["ack_overdue"] and manager.heard.count("fed") >= 3


def test_a_longer_interval_is_waited_for():
    now = [0.0]
    progress = Progress(Bounds.of(60.0), clock=lambda: now[0])
    progress.fit(Bounds.of(3600.0))
    now[0] = 1000.0
    for moves in (progress.tick, progress.courier, progress.frame):
        moves()
    assert progress.check().fed
    progress.fit(Bounds.of(60.0))
    assert not progress.check().fed
