"""What is written in microseconds is there to be looked at."""

from __future__ import annotations

import sys
import threading

import numpy as np
import pytest

from device_agent.classify import Prediction
from device_agent.contract.report import CLOCK_SYNCED, System
from device_agent.local.live import EVENTS_KEPT, LiveState
from device_agent.local.metrics import GAUGES, SAYS

ANSWER = Prediction(1, 0.9, 2.2, 8)
STAGES = (50.0, 150.0, 5000.0, 1e8)


@pytest.fixture
def timed(clock):
    return LiveState(clock=clock.seconds, wall=clock.seconds)


def test_a_frame_is_kept_by_reference_with_its_answer(timed):
    assert timed.shot() is None
    image = np.zeros((4, 4, 3), np.uint8)
    timed.frame(image, ANSWER, "reject", STAGES)
    shot, view = timed.shot(), timed.view()
    assert shot.image is image and shot.answer is ANSWER and shot.decision == "reject"
    assert view.counters["frames"] == 1 and view.decisions == {"reject": 1}
    assert [sum(stage) for stage in view.buckets] == [1, 1, 1, 1]
    assert (view.buckets[0][0], view.buckets[3][31]) == (1, 1) and view.sums_us == list(STAGES)


def test_a_view_does_not_change_under_the_reader(timed):
    view = timed.view()
    timed.frame(np.zeros((4, 4, 3), np.uint8), ANSWER, None, STAGES)
    timed.event("camera_lost", "x")
    assert view.counters["frames"] == 0 and not view.events and not view.gauges and not view.recent_us


def test_the_rate_is_that_of_the_last_seconds_and_falls_without_frames(timed, clock):
    assert timed.view().frames_per_s == 0
    for _ in range(400):
        clock.pass_s(0.1)
        timed.frame(np.zeros((1, 1, 3), np.uint8), ANSWER, None, STAGES)
    assert timed.view().frames_per_s == pytest.approx(10, rel=0.01)
    for _ in range(100):
        clock.pass_s(0.5)
        timed.frame(np.zeros((1, 1, 3), np.uint8), ANSWER, None, STAGES)
    assert timed.view().frames_per_s == pytest.approx(2, rel=0.01)
    clock.pass_s(600)
    assert timed.view().frames_per_s < 0.01


def test_events_of_the_last_hour_are_shown_and_a_flood_of_them_is_bounded(timed, clock):
    timed.event("camera_lost", "old")
    clock.pass_s(3601)
    timed.event("camera_found", "new")
    assert [one.text for one in timed.view().events] == ["new"]
    for k in range(1000):
        timed.event(f"kind-{k}", "x" * 10_000)
    view = timed.view()
    assert len(view.events) == EVENTS_KEPT and len(view.events[0].text) == 300
    assert len(view.kinds) <= 65 and sum(view.kinds.values()) == 1002 and view.kinds["other"] > 900


def test_a_jump_of_the_wall_clock_hides_no_later_event(clock):
    wall = [0.0]
    live = LiveState(clock=clock.seconds, wall=lambda: wall[0])
    live.event("serving", "in 1970")
    wall[0] = 1.8e9
    live.event("clock_step", "now")
    assert [one.text for one in live.view().events] == ["now"]
    wall[0] = 0.0
    live.event("clock_step", "back")
    assert "back" in [one.text for one in live.view().events]


def test_ages_are_monotonic(timed, clock):
    timed.moment("ack")
    clock.pass_s(12)
    assert timed.view().ages_s == {"ack": pytest.approx(12)}


def test_the_fault_says_since_when_and_what_was_said(timed, clock):
    assert timed.fault() == "no frame was answered yet"
    timed.frame(np.zeros((1, 1, 3), np.uint8), ANSWER, None, STAGES)
    assert timed.fault() == ""
    clock.pass_s(31)
    timed.event("camera_lost", "camera: silent for 5 s")
    assert timed.fault() == "the last frame was answered 31 s ago: camera_lost"


def test_a_report_brings_what_it_alone_knows(timed, make_report):
    board = System(cpu_percent=31, temperature_c=52, throttled=False, rss_mib=60, disk_free_mib=None)
    timed.report(make_report(dropped=7, system=board, self_test_ok=True, flags=CLOCK_SYNCED))
    view = timed.view()
    assert view.counters["dropped"] == 7
    assert view.gauges == {
        "self_test_ok": 1,
        "clock_synced": 1,
        "degraded": 0,
        "temperature_celsius": 52,
        "cpu_ratio": 0.31,
        "throttled": 0,
        "resident_memory_bytes": 60 << 20,
    }
    timed.report(make_report(dropped=1, system=None))
    assert timed.view().counters["dropped"] == 8 and timed.view().gauges["temperature_celsius"] == 52


def test_events_and_frames_say_whether_camera_and_broker_are_there(timed):
    timed.event("camera_lost", "")
    timed.event("broker_connected", "")
    assert timed.view().gauges == {"camera_up": 0, "online": 1}
    timed.frame(np.zeros((1, 1, 3), np.uint8), ANSWER, None, STAGES)
    timed.event("broker_unreachable", "")
    assert timed.view().gauges == {"camera_up": 1, "online": 0}
    assert all(name in GAUGES for name, _ in SAYS.values())


def test_a_name_that_is_none_is_a_mistake(timed):
    with pytest.raises(KeyError):
        timed.count("framez")
    with pytest.raises(KeyError):
        timed.gauge("temperature", 1)


def test_a_gauge_that_is_not_known_any_more_goes(timed):
    timed.gauge("temperature_celsius", 50)
    timed.gauge("temperature_celsius", None)
    assert timed.view().gauges == {}


def test_threads_lose_no_count(timed):
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:

        def work():
            for _ in range(500):
                timed.frame(np.zeros((1, 1, 3), np.uint8), ANSWER, "pass", STAGES)
                timed.count("dropped", 2)
                timed.view()

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    view = timed.view()
    assert (view.counters["frames"], view.counters["dropped"], view.decisions["pass"]) == (2000, 4000, 2000)
    assert [sum(stage) for stage in view.buckets] == [2000] * 4
