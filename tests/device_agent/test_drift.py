"""The local breaker on the reports of one camera: healthy, dirty, cleaned, restarted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from device_agent.contract.codec import SCHEMA
from device_agent.contract.histogram import BINS, ConfidenceHistogram
from device_agent.contract.manifest import Baseline, Label
from device_agent.contract.report import DeviceReport
from device_agent.drift import BreakerSettings, DriftWatch

MODEL, OTHER = b"model--1", b"model--2"
LABELS = [Label("good", "good"), Label("scratch", "defect")]


def _shares(low: float, middle: float) -> np.ndarray:
    bins = np.arange(BINS)
    bell, doubt = np.exp(-(((bins - middle) / 2.5) ** 2)), np.exp(-(((bins - 4) / 1.5) ** 2))
    good = (0.99 - low) * bell / bell.sum() + low * doubt / doubt.sum()
    return np.stack([good, 0.01 * np.exp(-(((bins - 16) / 2) ** 2)) / 6])


HEALTHY, DIRTY = _shares(0.01, 14.0), _shares(0.35, 11.0)


class Line:
    """Reports of one camera, seeded."""

    def __init__(self, seed: int) -> None:
        self.rng, self.sequence = np.random.default_rng(seed), 0

    def report(self, shares: np.ndarray, *, same: bool = False) -> DeviceReport:
        model, frames = MODEL, 200
        self.sequence += 1
        cells = self.rng.choice(shares.size, frames, p=shares.ravel() / shares.sum())
        counts = np.bincount(cells, minlength=shares.size).reshape(2, BINS)
        return DeviceReport(
            schema=SCHEMA, epoch=1, sequence=self.sequence, boot=1, wall_ms=0, monotonic_ms=60_000 * self.sequence,
            interval_ms=60_000, model=model, frames=frames, dropped=0, parts=frames,
            same=int((np.diff(cells) == 0).sum()), identical=frames - 1 if same else 0,
            histogram=ConfidenceHistogram.of(counts),
        )  # fmt: skip


@pytest.fixture
def watch(tmp_path: Path) -> Callable[..., tuple[DriftWatch, list[tuple[str, str]]]]:
    def make(on_drift: str = "safe", prevalence: bool = True) -> tuple[DriftWatch, list[tuple[str, str]]]:
        events: list[tuple[str, str]] = []
        counts = np.stack([np.rint(20_000 * HEALTHY), np.rint(200 * HEALTHY[::-1])]).astype(np.int64)
        baseline = Baseline.of(counts, [0.99, 0.01] if prevalence else None)
        made = DriftWatch(
            LABELS, {MODEL: baseline, OTHER: baseline}, msgspec.convert({"on_drift": on_drift}, BreakerSettings),
            tmp_path, lambda kind, text: events.append((kind, text)),
        )  # fmt: skip
        made.serves(MODEL)
        return made, events

    return make


def test_a_healthy_day_opens_nothing(watch) -> None:
    found, events = watch()
    line = Line(1)
    for _ in range(1440):
        found.feed(line.report(HEALTHY))
    assert not found.fault and not [kind for kind, _ in events if kind != "drift_warn"]


def test_dirt_opens_the_breaker_and_a_clean_lens_closes_it(watch) -> None:
    found, events = watch()
    line = Line(2)
    for _ in range(30):
        found.feed(line.report(HEALTHY))
    minutes = 0
    while not found.fault:
        found.feed(line.report(DIRTY))
        minutes += 1
        assert minutes < 30
    assert [kind for kind, _ in events][-2:] == ["drift_page", "breaker_open"]
    assert "times the expected rate" in found.fault
    for _ in range(800):
        found.feed(line.report(HEALTHY))
    assert not found.fault and [kind for kind, _ in events][-2:] == ["drift_over", "breaker_closed"]


def test_reporting_only_never_stops_the_line(watch) -> None:
    found, events = watch(on_drift="report")
    line = Line(3)
    for _ in range(60):
        found.feed(line.report(DIRTY))
        assert not found.fault
    kinds = [kind for kind, _ in events]
    assert "drift_page" in kinds and "breaker_open" not in kinds


def test_a_restart_forgets_neither_the_evidence_nor_the_stop(watch) -> None:
    found, _ = watch()
    line = Line(4)
    while not found.fault:
        found.feed(line.report(DIRTY))
    found.close()
    again, events = watch()
    assert again.fault and events[0][0] == "breaker_open"
    assert again.reset() == "was open, and is closed" and not again.fault
    again.close()
    assert not watch()[0].fault


def test_a_damaged_memory_is_said_and_the_detector_starts_from_nothing(watch, tmp_path: Path) -> None:
    (tmp_path / f"drift-{MODEL.hex()}.json").write_text('{"schema": "1.0", "learn')
    found, events = watch()
    assert events[0][0] == "drift_unread" and not found.fault
    found.feed(Line(5).report(HEALTHY))


def test_another_model_starts_from_what_is_known_of_it(watch) -> None:
    found, _ = watch()
    line = Line(6)
    while not found.fault:
        found.feed(line.report(DIRTY))
    found.serves(OTHER)
    assert not found.fault
    found.serves(MODEL)
    assert found.fault


def test_a_frozen_camera_opens_the_breaker(watch) -> None:
    found, events = watch()
    line = Line(7)
    for _ in range(4):
        found.feed(line.report(HEALTHY, same=True))
    assert found.fault and ("camera_frozen", found.fault) in events


def test_without_a_prevalence_nothing_is_judged_before_the_first_day_is_over(watch) -> None:
    found, _ = watch(prevalence=False)
    line = Line(8)
    for _ in range(120):
        found.feed(line.report(DIRTY))
    assert not found.fault


def test_at_another_interval_the_same_evidence_is_judged_anew(watch) -> None:
    found, _ = watch()
    before = found._page
    found.retime(1_000)
    assert found._page > before + 3, "sixty times as many reports are sixty times as many chances"
    assert found._models[MODEL].detector.page == found._page
