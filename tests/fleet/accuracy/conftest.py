"""A line of two classes whose truth is known, and its reports, samples and models in a store."""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Iterator

import numpy as np
import pytest
from sqlalchemy import insert

from device_agent.contract.codec import encode
from device_agent.contract.histogram import BINS
from device_agent.contract.manifest import Baseline, Label
from fleet.accuracy.validation import Validation
from fleet.schema import DEVICE, REPORT, SAMPLE
from fleet.store import open_store, upsert

NOW_MS = 1_790_000_000_000
MINUTE_MS = 60_000
LABELS = [Label("good", "good"), Label("scratch", "defect")]


@pytest.fixture
def baseline() -> Baseline:
    """Of 4,000 validation images, half of them defects: 5 % of the good called defects, 10 % of the defects missed."""
    counts = np.zeros((2, 2, BINS), np.int64)
    counts[0, 0, [4, 7, 12, 16]], counts[0, 1, [4, 6]] = (15, 20, 140, 300), (20, 5)
    counts[1, 1, [4, 7, 12, 16]], counts[1, 0, [4, 7]] = (30, 60, 160, 200), (40, 10)
    return Baseline.of(4 * counts, [0.98, 0.02])


@pytest.fixture
def validation(baseline: Baseline) -> Validation:
    return Validation.of(LABELS, baseline)


class Filled:
    """A store with devices that run the plant's first model."""

    def __init__(self, plant) -> None:
        self.plant = plant
        self.engine = open_store(plant.url)
        self.model = plant.model_ids[0].hex()

    def reports(self, device: str, number: int = 20, *, look: str = "healthy", frames: int = 200, now_ms: int = NOW_MS):
        """So many reports of a device, the last one a minute ago."""
        speaker = self.plant.speaker(device, interval_ms=MINUTE_MS, seed=len(device) + number)
        rows = []
        for index in range(number):
            report = speaker.report(look, frames=frames)
            at_ms = now_ms - (number - index) * MINUTE_MS
            rows.append(
                {
                    "device": device,
                    "epoch": report.epoch,
                    "sequence": report.sequence,
                    "first": report.sequence,
                    "at_ms": at_ms,
                    "received_ms": at_ms,
                    "interval_ms": MINUTE_MS,
                    "model": self.model,
                    "frames": frames,
                    "dropped": 0,
                    "score": None,
                    "payload": encode(report),
                }
            )
        with self.engine.begin() as tx:
            tx.execute(insert(REPORT), rows)
            known = {"device": device, "site": "hall", "line": "a", "product": "plate", "imported": True}
            spoken = {"reports": number, "frames": number * frames, "dropped": 0, "model": self.model}
            upsert(tx, DEVICE, [{**known, **spoken, "hardware": "pi-4", "batch": 0}])

    def samples(self, device: str, cells: list[int], *, reason: str = "low", now_ms: int = NOW_MS) -> list[str]:
        """Samples in these cells, a minute apart; their digests."""
        names = [hashlib.sha256(f"{device} {reason} {k}".encode()).hexdigest() for k in range(len(cells))]
        rows = [
            {
                "sha256": name,
                "device": device,
                "model": self.model,
                "at_ms": now_ms - (k + 1) * MINUTE_MS,
                "received_ms": now_ms,
                "cell": cell,
                "reason": reason,
                "probability": None,
                "bytes": 9,
            }
            for k, (name, cell) in enumerate(zip(names, cells, strict=True))
        ]
        with self.engine.begin() as tx:
            tx.execute(insert(SAMPLE), rows)
        return names


@pytest.fixture
def filled(plant) -> Iterator[Filled]:
    plant.open().dispose()
    found = Filled(plant)
    yield found
    found.engine.dispose()
    gc.collect()  # closes what commands opened, of which a server has so many


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests that store something run on every kind of store."""
    if "filled" in metafunc.fixturenames:
        kinds = ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]
        metafunc.parametrize("plant", kinds, indirect=True)
