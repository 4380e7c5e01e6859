"""Size of a report at 600 frames a minute of the drift benchmark's world, measured over many minutes."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from device_agent.contract.codec import SCHEMA, encode
from device_agent.contract.histogram import BINS, ConfidenceHistogram, bin_of
from device_agent.contract.latency import BUCKETS, FIRST_US
from device_agent.contract.report import (
    CLOCK_SYNCED,
    STAGES,
    DeviceReport,
    ImageQuality,
    System,
    read_backfill,
    read_report,
    write_backfill,
)

FRAMES = 600
MINUTES = 1000
STAGE_MEDIAN_US = {"capture": 33_000, "preprocess": 900, "infer": 21_000, "post": 120}


def cells_of_a_minute(rng: np.random.Generator, classes: int, tau_s: float | None) -> NDArray[np.intp]:
    """Cell (class * 24 + bin) of each of 600 frames: bulk good 98.5 %, ambiguous 1 %, confident defects 0.5 %.

    The good class has the highest index and the defects are spread evenly over the others: the widest numbers and the
    most cells that the world can give. With `tau_s` a frame keeps the cell of the one before it with e^(-dt/tau).
    """
    kind = rng.choice(3, FRAMES, p=[0.985, 0.010, 0.005])
    bulk = np.where(rng.random(FRAMES) < 0.5, rng.beta(0.6, 250, FRAMES), rng.beta(0.6, 180, FRAMES))
    defect = np.choose(kind, [bulk, rng.beta(1.2, 1.5, FRAMES), rng.beta(20, 1, FRAMES)]).clip(1e-12, 1 - 1e-12)
    label = np.where(defect >= 0.5, rng.integers(0, classes - 1, FRAMES), classes - 1)
    cell = label * BINS + bin_of(np.abs(np.log(defect / (1 - defect))))
    if tau_s is not None:
        fresh = rng.random(FRAMES) >= np.exp(-60 / FRAMES / tau_s)
        fresh[0] = True
        cell = cell[np.maximum.accumulate(np.where(fresh, np.arange(FRAMES), 0))]
    return cell


def latency_of_a_minute(rng: np.random.Generator) -> list[list[int]]:
    """Sparse latency of each stage: lognormal, 15 % wide, one frame in a hundred three times slower."""
    out = []
    for stage in STAGES:
        slow = np.where(rng.random(FRAMES) < 0.01, 3.0, 1.0)
        times_us = STAGE_MEDIAN_US[stage] * slow * rng.lognormal(0, 0.15, FRAMES)
        buckets = np.clip(np.floor(2 * np.log2(times_us / FIRST_US)), 0, BUCKETS - 1).astype(int)
        counts = np.bincount(buckets)
        used = np.flatnonzero(counts)
        out.append(np.column_stack([used, counts[used]]).ravel().tolist())
    return out


def report_of_a_minute(rng: np.random.Generator, minute: int, classes: int, tau_s: float | None) -> DeviceReport:
    cell = cells_of_a_minute(rng, classes, tau_s)
    counts = np.bincount(cell, minlength=classes * BINS).reshape(classes, BINS)
    return DeviceReport(
        schema=SCHEMA,
        epoch=int(rng.integers(2**31, 2**32)),
        sequence=1_000_000 + minute,
        boot=int(rng.integers(200, 60_000)),
        wall_ms=1_790_000_000_000 + 60_000 * minute,
        monotonic_ms=5_000_000_000 + 60_000 * minute,
        interval_ms=60_000 + int(rng.integers(0, 50)),
        model=rng.bytes(8),
        frames=FRAMES,
        dropped=int(rng.integers(0, 400)),
        parts=FRAMES // 2,
        same=int((cell[1:] == cell[:-1]).sum()),
        identical=int(rng.integers(0, 3)),
        histogram=ConfidenceHistogram.of(counts),
        latency=latency_of_a_minute(rng),
        quality=ImageQuality(brightness=140, sharpness=int(rng.integers(300, 70_000)), clipped_permille=12),
        system=System(cpu_percent=63, temperature_c=58, throttled=False, rss_mib=180, disk_free_mib=21_000),
        self_test_ok=True,
        flags=CLOCK_SYNCED,
    )


@pytest.mark.parametrize(("classes", "limit_bytes"), [(10, 256), (1000, 330)])
@pytest.mark.parametrize("tau_s", [2.0, None], ids=["hold-2s", "independent"])
def test_p99_of_a_report(classes, limit_bytes, tau_s, capsys):
    rng = np.random.default_rng(11)
    reports = [report_of_a_minute(rng, minute, classes, tau_s) for minute in range(MINUTES)]
    payloads = [encode(report) for report in reports]
    sizes = np.array([len(payload) for payload in payloads])
    assert sizes.std() > 1
    assert all(read_report(payload) == report for payload, report in zip(payloads[:50], reports, strict=False))
    p50, p99 = np.quantile(sizes, [0.5, 0.99])
    with capsys.disabled():
        print(f"\nreport, {classes} classes, tau {tau_s}: p50 {p50:.0f} B, p99 {p99:.0f} B, largest {sizes.max()} B")
    assert p99 <= limit_bytes


def test_sixty_reports_fit_a_backfill_message(capsys):
    rng = np.random.default_rng(12)
    first = report_of_a_minute(rng, 0, 10, 2.0)
    reports = [
        msgspec.structs.replace(
            report_of_a_minute(rng, minute, 10, 2.0), epoch=first.epoch, boot=first.boot, model=first.model
        )
        for minute in range(60)
    ]
    payload = write_backfill([encode(report) for report in reports])
    with capsys.disabled():
        print(f"\nbackfill of 60 reports, 10 classes: {len(payload)} B")
    assert read_backfill(payload) == reports
    assert len(payload) <= 8192
