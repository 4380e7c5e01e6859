"""Merged reports count the same frames, in whatever steps they are merged."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from device_agent.contract.codec import encode
from device_agent.contract.report import BACKFILL, MERGED, DeviceReport, ImageQuality, Shadow, read_report
from device_agent.merging import halve, merge, mergeable

Make = Callable[..., DeviceReport]
quiet = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@quiet
@given(st.lists(st.integers(0, 200), min_size=2, max_size=12), st.data())
def test_in_any_steps(make_report: Make, frames: list[int], data: st.DataObject) -> None:
    reports = [make_report(count, seed=k, sequence=k + 1) for k, count in enumerate(frames)]
    whole = merge(reports)
    at = data.draw(st.integers(1, len(frames) - 1))
    first = reports[0] if at == 1 else merge(reports[:at])
    last = reports[-1] if at == len(frames) - 1 else merge(reports[at:])
    assert mergeable(first, last)
    assert merge([first, last]) == whole
    assert whole.frames == sum(frames)
    assert (whole.histogram.dense() == sum(report.histogram.dense() for report in reports)).all()
    assert whole.merged == (1, len(frames))
    assert read_report(encode(whole)) == whole


def test_adds_times_and_flags_and_weighs_quality(make_report: Make) -> None:
    one = make_report(30, sequence=4, quality=ImageQuality(100, 10, 0), flags=BACKFILL, self_test_ok=True)
    two = make_report(10, sequence=5, quality=ImageQuality(200, 50, 400), self_test_ok=False)
    merged = merge([one, two])
    assert (merged.interval_ms, merged.dropped, merged.flags) == (120_000, 2, BACKFILL | MERGED)
    assert merged.quality == ImageQuality(125, 20, 100)
    assert merged.latency == [[3, 40], [0, 40], [9, 40], [0, 40]]
    assert merged.self_test_ok is False


def test_shadows_of_one_candidate_add_up(make_report: Make) -> None:
    shadow = Shadow(b"newmodel", 3, 2, [0, 2, 5, 1], [23, 2, 50, 1], [4, 3])
    one = make_report(30, sequence=4, shadow=shadow)
    two = make_report(10, sequence=5, shadow=Shadow(b"newmodel", 2, 2, [0, 1, 4, 1], [23, 1, 40, 1], [4, 1, 6, 1]))
    none, other = make_report(sequence=6), make_report(sequence=5, shadow=Shadow(b"othermod", 1, 1))
    merged = merge([one, two, none])
    assert merged.shadow == Shadow(b"newmodel", 5, 4, [0, 3, 4, 1, 5, 1], [23, 3, 40, 1, 50, 1], [4, 4, 6, 1])
    assert read_report(encode(merged)) == merged
    assert mergeable(one, two) and not mergeable(one, other)
    assert [report.shadow for report in halve([one, other])] == [one.shadow, other.shadow]
    assert merge([make_report(sequence=3, shadow=other.shadow), make_report(sequence=4), one]).shadow == shadow


def test_only_neighbours_of_one_model_and_boot(make_report: Make) -> None:
    report = make_report(3, sequence=4, epoch=1)
    follower = msgspec.structs.replace(report, sequence=5)
    assert mergeable(report, follower)
    for change in ({"sequence": 6}, {"model": b"modeltwo"}, {"boot": 1}, {"epoch": 2}):
        assert not mergeable(report, msgspec.structs.replace(follower, **change))
