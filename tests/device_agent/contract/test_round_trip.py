"""Any report and any histogram come back as they were sent, and histograms add up."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from device_agent.contract.codec import decode, encode
from device_agent.contract.histogram import BINS, ConfidenceHistogram
from device_agent.contract.latency import BUCKETS
from device_agent.contract.manifest import Baseline
from device_agent.contract.report import (
    DeviceReport,
    ImageQuality,
    Shadow,
    System,
    read_backfill,
    read_report,
    write_backfill,
)

STEADY = settings(max_examples=80, deadline=None, derandomize=True)
U32, U63, COUNT = st.integers(0, 2**32 - 1), st.integers(0, 2**63 - 1), st.integers(0, 2**40)
MODEL = st.binary(min_size=8, max_size=8)


@st.composite
def counts(draw) -> np.ndarray:
    """Dense counts (classes, 24), mostly zero."""
    classes = draw(st.integers(1, 12))
    return draw(arrays(np.int64, (classes, BINS), elements=st.integers(0, 2**30), fill=st.just(0)))


@st.composite
def stages(draw) -> list[int]:
    buckets = draw(st.lists(st.integers(0, BUCKETS - 1), unique=True, max_size=6).map(sorted))
    return [number for bucket in buckets for number in (bucket, draw(COUNT))]


@st.composite
def shadows(draw, classes: int) -> Shadow:
    """What a candidate says of some frames, with its details or, as in 1.0, without."""
    frames = draw(st.integers(0, 2**30))
    if not frames or draw(st.booleans()):
        return Shadow(draw(MODEL), frames, draw(st.integers(0, frames)))
    agreed = draw(st.integers(0, frames)) if classes > 1 else frames
    split = ([0, agreed] if agreed else []) + ([1, frames - agreed] if agreed < frames else [])
    return Shadow(draw(MODEL), frames, agreed, split, [BINS * classes - 1, frames], [BUCKETS - 1, frames])


@st.composite
def reports(draw) -> DeviceReport:
    histogram = ConfidenceHistogram.of(draw(counts()))
    frames, sequence = histogram.total, draw(U63)
    some = st.integers(0, frames)
    return DeviceReport(
        schema=draw(st.integers(16, 31)),
        epoch=draw(U32),
        sequence=sequence,
        boot=draw(U32),
        wall_ms=draw(U63),
        monotonic_ms=draw(st.integers(0, 2**42)),
        interval_ms=draw(st.integers(0, 7 * 86_400_000)),
        model=draw(MODEL),
        frames=frames,
        dropped=draw(COUNT),
        parts=draw(some),
        same=draw(some),
        identical=draw(some),
        histogram=histogram,
        latency=draw(st.lists(stages(), max_size=4)),
        quality=draw(st.none() | st.builds(ImageQuality, st.integers(0, 255), st.integers(0, 65_025), st.just(9))),
        system=draw(
            st.none() | st.builds(System, st.none() | st.integers(0, 100), throttled=st.none() | st.booleans())
        ),
        shadow=draw(st.none() | shadows(histogram.classes)),
        self_test_ok=draw(st.none() | st.booleans()),
        flags=draw(st.integers(0, 31)),
        merged=draw(st.none() | st.tuples(st.integers(0, sequence), st.just(sequence))),
    )


@STEADY
@given(report=reports(), encoding=st.sampled_from(["msgpack", "json"]))
def test_a_report_comes_back(report, encoding):
    payload = encode(report, encoding=encoding)
    assert read_report(payload) == report
    assert encode(decode(payload, DeviceReport), encoding=encoding) == payload


@STEADY
@given(batch=st.lists(reports(), max_size=2))
def test_a_backfill_comes_back(batch):
    assert read_backfill(write_backfill([encode(report) for report in batch])) == batch


@STEADY
@given(dense=counts())
def test_a_histogram_comes_back(dense):
    histogram = ConfidenceHistogram.of(dense)
    assert (histogram.dense() == dense).all()
    assert histogram.total == dense.sum()
    assert len(histogram.cells) == 2 * np.count_nonzero(dense)


@STEADY
@given(data=st.data())
def test_merging_is_addition_of_the_dense_forms(data):
    one = data.draw(counts())
    two = data.draw(arrays(np.int64, one.shape, elements=st.integers(0, 2**30), fill=st.just(0)))
    merged = ConfidenceHistogram.of(ConfidenceHistogram.of(one // 2).dense() + ConfidenceHistogram.of(two).dense())
    assert (merged.dense() == one // 2 + two).all()


@STEADY
@given(data=st.data())
def test_a_baseline_comes_back(data):
    classes = data.draw(st.integers(1, 6))
    shape = (classes, classes, BINS)
    dense = data.draw(arrays(np.int64, shape, elements=st.integers(0, 10_000), fill=st.just(0)))
    baseline = Baseline.of(dense, prevalence=[1 / classes] * classes)
    assert (baseline.dense() == dense).all()
