"""The checks of a batch find exactly what the checks of one report refuse."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.contract.codec import encode
from device_agent.contract.errors import BadInput
from device_agent.contract.histogram import ConfidenceHistogram
from device_agent.contract.report import DeviceReport, Shadow, read_report
from fleet.soundness import sound

SMALL = st.integers(-2, 60)
NUMBERS = st.one_of(SMALL, st.sampled_from([2**40, 2**40 + 1, 2**63 - 1, 2**64 - 1, -(2**63)]))


def report(cells: list[int], frames: int, **fields: object) -> DeviceReport:
    given_ = {"same": 0, "identical": 0, "parts": 0, "latency": [], **fields}
    histogram = ConfidenceHistogram(classes=fields.pop("classes", 2), cells=cells)  # type: ignore[arg-type]
    given_.pop("classes", None)
    return DeviceReport(
        schema=17, epoch=1, sequence=5, boot=1, wall_ms=0, monotonic_ms=0, interval_ms=60_000, model=bytes(8),
        frames=frames, dropped=0, histogram=histogram, **given_,
    )  # fmt: skip


def passes(one: DeviceReport) -> bool:
    try:
        read_report(encode(one))
    except (BadInput, OverflowError):
        return False
    return True


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(NUMBERS, max_size=8), st.integers(0, 100), st.integers(0, 100), st.integers(-1, 3),
            st.lists(st.lists(st.integers(0, 40), max_size=4), max_size=3),
        ),
        min_size=1,
        max_size=6,
    )
)  # fmt: skip
def test_a_batch_agrees_with_each_report_alone(drawn) -> None:
    reports = [
        report(cells, frames, same=same, classes=classes, latency=latency)
        for cells, frames, same, classes, latency in drawn
    ]
    huge = any(abs(number) >= 2**63 for one in reports for number in one.histogram.cells)
    expected = [passes(one) for one in reports]
    found = sound(reports).tolist()
    assert all(not good or right for good, right in zip(found, expected, strict=True)), "nothing wrong passes"
    if not huge:
        assert found == expected, "and nothing right is held up"


@pytest.mark.parametrize("count", [0, 1, 50])
def test_right_ones_pass(count: int) -> None:
    rng = np.random.default_rng(count)
    reports = []
    for _ in range(count):
        counts = rng.integers(0, 5, (3, 24))
        histogram = ConfidenceHistogram.of(counts)
        one = report([], histogram.total, latency=[[3, 4], [], [31, 1]])
        reports.append(msgspec.structs.replace(one, histogram=histogram))
    assert sound(reports).all() and len(sound(reports)) == count


def test_a_shadow_or_a_range_is_for_the_checks_of_one() -> None:
    plain = report([1, 3], 3)
    with_shadow = msgspec.structs.replace(plain, shadow=Shadow(bytes(8), 1, 1))
    merged = msgspec.structs.replace(plain, merged=(2, 5))
    assert sound([plain, with_shadow, merged]).tolist() == [True, False, False]
    assert passes(with_shadow) and passes(merged)
