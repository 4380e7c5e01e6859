"""Devices that report: encoded reports of a whole fleet, minute by minute, and the models that they run."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from device_agent.contract import topics
from device_agent.contract.codec import SCHEMA, encode
from device_agent.contract.histogram import BINS, ConfidenceHistogram
from device_agent.contract.manifest import Baseline, Label
from device_agent.contract.report import CLOCK_SYNCED, DeviceReport, ImageQuality, System
from device_agent.contract.session import Birth
from fleet.models import Model
from fleet.registry import Device

MODEL = b"benchmrk"
START_MS, INTERVAL_MS, FRAMES = 1_790_000_000_000, 60_000, 600
DEVICES_A_SITE = 20


def shares(classes: int) -> NDArray[np.float64]:
    """Cell shares (classes, 24) of a line with 99 % good parts: one good class, the others defects alike."""
    bins = np.arange(BINS)
    good = np.exp(-(((bins - 15) / 3.0) ** 2))
    bad = np.exp(-(((bins - 9) / 4.0) ** 2))
    rest = np.tile(0.01 / max(classes - 1, 1) * bad / bad.sum(), (classes - 1, 1))
    return np.vstack([(0.99 if classes > 1 else 1.0) * good / good.sum(), rest])


def model(classes: int) -> Model:
    """The model that every device runs, with a baseline that says how common each class is."""
    labels = [Label("good", "good"), *(Label(f"flaw{k}", "defect") for k in range(1, classes))]
    cells = np.zeros((classes, classes, BINS), np.int64)
    for k, row in enumerate(shares(classes)):
        cells[k, k] = np.rint(4000 * row / row.sum())
    prevalence = [0.99, *([0.01 / (classes - 1)] * (classes - 1))]
    return Model(
        model=MODEL.hex(),
        name="bench",
        runtime="litert",
        precision="int8",
        labels=labels,
        baseline=Baseline.of(cells, prevalence=prevalence),
    )


def places(devices: int) -> list[Device]:
    """Sites of 20 devices."""
    return [
        Device(device=name(k), site=f"site-{k // DEVICES_A_SITE}", line=str(k % 4), product="plate", imported=True)
        for k in range(devices)
    ]


def name(device: int) -> str:
    """Of device number k."""
    return f"bench-{device:06d}"


def birth(device: int) -> bytes:
    """What a device says when it connects."""
    said = Birth(
        schema=SCHEMA,
        epoch=epoch(device),
        boot=1,
        agent="0.1.0",
        model=MODEL,
        model_name="bench",
        labels=[],
        runtime="litert-int8",
        interval_ms=INTERVAL_MS,
        hardware="bench",
        clock_synced=True,
    )
    return encode(said)


def epoch(device: int) -> int:
    """Of the device's spool."""
    return zlib.crc32(name(device).encode())


def minute(
    devices: int, number: int, classes: int, seed: int, *, variety: int = 2000, apart_ms: int = INTERVAL_MS
) -> Iterator[tuple[str, bytes]]:
    """Topic and payload of every device's report number `number` (from 1). The histograms are drawn from a stock of
    `variety` for each minute, so that making them does not take longer than reading them. `apart_ms`: between reports
    by the device's clock; no more than they are really apart, else each corrects what is known of that clock."""
    rng = np.random.default_rng([seed, number])
    cells = shares(classes).ravel()
    stock = rng.multinomial(FRAMES // 2, cells / cells.sum(), size=min(variety, devices)) * 2  # each part stays for two
    histograms = [ConfidenceHistogram.of(one.reshape(classes, BINS)) for one in stock]
    same = rng.binomial(FRAMES // 2, 0.9, size=len(stock)) + FRAMES // 4
    for device in range(devices):
        at = (device * 7 + number) % len(stock)
        report = DeviceReport(
            schema=SCHEMA,
            epoch=epoch(device),
            sequence=number,
            boot=1,
            wall_ms=START_MS + number * apart_ms,
            monotonic_ms=number * apart_ms,
            interval_ms=INTERVAL_MS,
            model=MODEL,
            frames=FRAMES,
            dropped=0,
            parts=FRAMES // 2,
            same=int(min(same[at], FRAMES - 1)),
            identical=0,
            histogram=histograms[at],
            latency=[[3, 590, 4, 10], [5, 600], [14, 560, 15, 40], [0, 600]],
            quality=ImageQuality(128, 900, 2),
            system=System(40, 55, False, 90, 4000),
            self_test_ok=True,
            flags=CLOCK_SYNCED,
        )
        yield topics.up(name(device), "report"), encode(report)
