"""An interval adds up: what was answered, dropped, repeated."""

from __future__ import annotations

import numpy as np
import pytest

from device_agent.classify import Prediction
from device_agent.contract.codec import encode
from device_agent.contract.report import CLOCK_SYNCED, DEGRADED, System, read_report
from device_agent.frames import Frame
from device_agent.recorder import Recorder, Surroundings

STAGES_US = (150.0, 90.0, 2000.0, 50.0)
AROUND = Surroundings(1_700_000_000_000, System(cpu_percent=3), True)


def frame(stamp: int, level: int = 0, part: int | None = None) -> Frame:
    return Frame(np.full((8, 8, 3), level, np.uint8), stamp, 0, part)


def answer(label: int, bin_: int) -> Prediction:
    return Prediction(label, 0.9, 2.0, bin_)


def test_counts_classes_and_bins() -> None:
    recorder = Recorder(b"modelone", 2, 0)
    for stamp, (label, bin_) in enumerate([(0, 3), (1, 23), (1, 23)]):
        recorder.add(frame(stamp), answer(label, bin_), STAGES_US)
    report = recorder.close(5_000_000_000, AROUND)
    dense = report.histogram.dense()
    assert (report.frames, dense[0, 3], dense[1, 23], dense.sum()) == (3, 1, 2, 3)
    assert (report.interval_ms, report.monotonic_ms, report.wall_ms) == (5000, 5000, 1_700_000_000_000)
    assert report.latency == [[1, 3], [0, 3], [8, 3], [0, 3]]
    assert report.flags == CLOCK_SYNCED
    assert read_report(encode(report)) == report


def test_frames_that_were_overwritten_are_dropped_by_their_stamps() -> None:
    recorder = Recorder(b"modelone", 2, 0)
    for stamp in (0, 1, 4, 5, 9):
        recorder.add(frame(stamp), answer(0, 0), STAGES_US)
    first = recorder.close(1, AROUND)
    recorder.add(frame(12), answer(0, 0), STAGES_US)
    assert (first.dropped, recorder.close(2, AROUND).dropped) == (5, 2)


def test_frames_that_went_by_while_another_model_was_loaded_are_dropped_too() -> None:
    before = Recorder(b"modelone", 2, 0)
    before.add(frame(5), answer(0, 0), STAGES_US)
    after = Recorder(b"modeltwo", 2, 1, after=before.stamp)
    after.add(frame(30), answer(0, 0), STAGES_US)
    assert after.close(2, AROUND).dropped == 24


def test_pairs_and_parts_go_on_over_the_end_of_an_interval() -> None:
    recorder = Recorder(b"modelone", 2, 0)
    recorder.add(frame(0, 7, part=0), answer(0, 5), STAGES_US)
    recorder.add(frame(1, 7, part=0), answer(0, 5), STAGES_US)
    recorder.add(frame(2, 8, part=1), answer(0, 5), STAGES_US)
    first = recorder.close(1, AROUND)
    recorder.add(frame(3, 8, part=1), answer(1, 5), STAGES_US)
    second = recorder.close(2, AROUND)
    assert (first.parts, first.same, first.identical) == (2, 2, 1)
    assert (second.parts, second.same, second.identical, second.frames) == (0, 0, 1, 1)


def test_quality_is_the_mean_of_the_interval() -> None:
    recorder = Recorder(b"modelone", 2, 0, degraded=True)
    recorder.add(frame(0, 100), answer(0, 0), STAGES_US)
    recorder.add(frame(1, 255), answer(0, 0), STAGES_US)
    report = recorder.close(1, AROUND)
    assert report.quality is not None
    assert report.quality.brightness == pytest.approx(178, abs=1)
    assert (report.quality.sharpness, report.quality.clipped_permille) == (0, 500)
    assert report.flags & DEGRADED


def test_an_interval_without_frames_is_a_report_too() -> None:
    report = Recorder(b"modelone", 2, 0).close(60_000_000_000, Surroundings(5))
    assert (report.frames, report.quality, report.interval_ms) == (0, None, 60_000)
    assert read_report(encode(report)) == report
