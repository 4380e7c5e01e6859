"""Several cameras as one, with fakes that wait as a camera does."""

from __future__ import annotations

import threading
from queue import Empty, SimpleQueue

import numpy as np
import pytest

from device_agent.contract.errors import BadInput, LinesideError
from device_agent.contract.manifest import InputSpec
from device_agent.frames import Frame, SourceEnded
from device_agent.frames.several import Several

SMALL, LARGE = InputSpec(height=8, width=8), InputSpec(height=16, width=16)


class Fed:
    """Frames that a test puts; an exception in their place is raised."""

    def __init__(self) -> None:
        self.waiting: SimpleQueue[Exception | int] = SimpleQueue()
        self.spec, self.threads, self.taken = SMALL, set[int](), 0

    def next(self, timeout_s: float) -> Frame | None:
        self.threads.add(threading.get_ident())
        try:
            found = self.waiting.get(timeout=min(timeout_s, 0.02))
        except Empty:
            return None
        if isinstance(found, Exception):
            raise found
        self.taken += 1
        return Frame(np.zeros((self.spec.height, self.spec.width, 3), np.uint8), found, 0)

    def refit(self, spec: InputSpec) -> None:
        self.threads.add(threading.get_ident())
        self.spec = spec


@pytest.fixture
def cameras():
    fed, lost = [Fed(), Fed()], []
    several = Several(fed, lambda at, why: lost.append((at, why)))
    yield fed, several, lost
    several.close()


def _next(several: Several) -> Frame:
    for _ in range(200):
        frame = several.next(0.05)
        if frame is not None:
            return frame
    pytest.fail("no frame came")


def test_each_camera_has_its_turn_and_its_number(cameras) -> None:
    fed, several, _ = cameras
    for stamp in range(4):
        fed[0].waiting.put(stamp)
    fed[1].waiting.put(0)
    fed[1].waiting.put(1)
    frames = [_next(several) for _ in range(6)]
    assert [frame.stamp for frame in frames if frame.camera == 0] == [0, 1, 2, 3]
    assert [frame.stamp for frame in frames if frame.camera == 1] == [0, 1]


def test_a_camera_is_not_read_before_its_frame_was_taken(cameras, eventually) -> None:
    fed, several, _ = cameras
    for stamp in range(5):
        fed[0].waiting.put(stamp)
    eventually(lambda: fed[0].taken == 1)
    assert several.next(0.1) is not None and fed[0].taken <= 2


def test_nothing_comes_within_the_time(cameras) -> None:
    _, several, _ = cameras
    assert several.next(0.0) is None and several.next(0.05) is None


def test_another_input_reaches_every_camera_in_its_own_thread_and_no_old_frame_comes(cameras, eventually) -> None:
    fed, several, _ = cameras
    fed[0].waiting.put(0)
    eventually(lambda: fed[0].taken == 1)
    several.refit(LARGE)
    fed[0].waiting.put(1)
    fed[1].waiting.put(0)  # which may come too early, and is dropped then
    eventually(lambda: fed[1].spec == LARGE)
    fed[1].waiting.put(1)
    assert {_next(several).image.shape for _ in range(2)} == {(16, 16, 3)}
    assert all(len(each.threads) == 1 for each in fed)


def test_one_that_fails_leaves_the_others_and_the_last_one_ends_the_source(cameras) -> None:
    fed, several, lost = cameras
    fed[0].waiting.put(BadInput("no picture"))
    fed[1].waiting.put(7)
    assert _next(several).stamp == 7
    while not lost:
        assert several.next(0.05) is None
    fed[1].waiting.put(SourceEnded())
    with pytest.raises(SourceEnded):
        _next(several)
    assert lost == [(0, "no picture")]


def test_one_that_failed_beside_one_that_ended_is_told_and_no_fault(cameras, eventually) -> None:
    fed, several, lost = cameras
    fed[0].waiting.put(SourceEnded())
    fed[1].waiting.put(BadInput("no picture"))
    eventually(lambda: several._waiters[0].ended and several._waiters[1].error)
    with pytest.raises(SourceEnded):
        _next(several)
    assert lost == [(1, "no picture")]


def test_one_that_failed_is_tried_again_and_found(cameras, monkeypatch) -> None:
    fed, several, lost = cameras
    monkeypatch.setattr("device_agent.frames.several.BACK_OFF_S", (0.01, 0.05))
    found: list[int] = []
    several._found = found.append
    for _ in range(3):
        fed[0].waiting.put(BadInput("no picture"))
    while not lost:
        several.next(0.01)
    fed[0].waiting.put(3)
    assert (_next(several).stamp, lost, found) == (3, [(0, "no picture")], [0])


def test_a_bug_in_one_cameras_part_blinds_it_for_a_moment_only(cameras, monkeypatch) -> None:
    fed, several, lost = cameras
    monkeypatch.setattr("device_agent.frames.several.BACK_OFF_S", (0.01, 0.05))
    fed[0].waiting.put(OSError(24, "Too many open files"))
    fed[0].waiting.put(4)
    assert _next(several).stamp == 4
    assert not lost or "error in this program: OSError" in lost[0][1]


def test_of_a_camera_with_a_rate_of_its_own_the_latest_frame_counts(eventually) -> None:
    fed = [Fed(), Fed()]
    several = Several(fed, lambda *_: None, fresh=[True, False])
    try:
        for stamp in range(5):
            fed[0].waiting.put(stamp)
            fed[1].waiting.put(stamp)
        eventually(lambda: fed[0].taken == 5)
        frames = [_next(several) for _ in range(2)]
        assert {frame.camera: frame.stamp for frame in frames} == {0: 4, 1: 0}
    finally:
        several.close()


def test_if_all_fail_the_last_fault_is_raised(cameras) -> None:
    fed, several, _ = cameras
    for each in fed:
        each.waiting.put(BadInput("no picture"))
    with pytest.raises(LinesideError, match="no picture"):
        _next(several)
