"""Detector, peers and alerts together on a simulated line: who is alerted when a whole site changes over."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from device_agent.contract.alert import Alert
from device_agent.contract.codec import SCHEMA
from device_agent.contract.histogram import BINS, ConfidenceHistogram
from device_agent.contract.manifest import Baseline, Label
from device_agent.contract.report import DeviceReport
from fleet.alerts import AlertBook
from fleet.detector_fleet import DetectorFleet, Settings
from fleet.ledger import Entry
from fleet.models import Model
from fleet.registry import Device, Registry
from fleet.trials import ROLES, learn
from fleet.worlds import DAY, Day, Fault, World, simulate

MODEL = bytes(8)
MINUTE_MS = 60_000


class AlertTrial(NamedTuple):
    """Alerts that were opened. `devices`: of single devices, not covered by one of their site when the trial ends or
    they close; `critical` or page are among `device_pages`. `sites`: of sites; `changed_sites`: sites that have one.
    `site_delay_min`: minutes from onset to each site's first alert."""

    devices: int
    device_pages: int
    sites: int
    changed_sites: int
    site_delay_min: list[float]


def try_alerts(
    world: World,
    seed: int,
    *,
    fault: Fault = "changeover",
    days: int = 8,
    reference_days: int = 3,
    pages_a_week_of_1000: float = 1.0,
) -> AlertTrial:
    """Feed healthy days, then a fault of all devices of all sites, through the monitor's own detector and alert book.

    Args:
        world: its sites have the fault from a minute of the first day on, each from another.
        seed: of the whole trial.
        fault: see `worlds`.
        days: watched after the reference.
        reference_days: from which each device's own reference is learnt.
        pages_a_week_of_1000: the dial, for a fleet of 1,000 devices.
    """
    rng = np.random.default_rng(seed)
    count = world.sites * world.devices
    onset = reference_days * DAY + np.repeat(rng.integers(0, DAY, world.sites), world.devices)
    stream = simulate(world, reference_days + days, rng, fault=fault, onset=onset)
    past = [next(stream) for _ in range(reference_days)]
    names = [f"s{site:02}-d{device:02}" for site in range(world.sites) for device in range(world.devices)]
    fleet = _fleet(past, names, pages_a_week_of_1000 * count / 1000)
    book = AlertBook(fleet.registry)
    seen: dict[str, Alert] = {}
    for day, block in enumerate(stream):
        for minute in range(DAY):
            at_ms = ((reference_days + day) * DAY + minute) * MINUTE_MS
            judged = set(fleet.detectors.feed(_entries(names, block, minute, at_ms)))
            for change in book.step(fleet.detectors.readings, judged, at_ms):
                seen[change.alert.id] = change.alert
    own = [alert for alert in seen.values() if alert.scope_kind == "device" and not alert.inhibited_by]
    common = [alert for alert in seen.values() if alert.scope_kind == "site"]
    begun = dict(zip((name[:3] for name in names), onset.tolist(), strict=True))
    first: dict[str, float] = {}
    for alert in sorted(common, key=lambda alert: alert.opened_ms):
        first.setdefault(alert.site, alert.opened_ms / MINUTE_MS + 1 - begun[alert.site])
    pages = sum(alert.severity in ("page", "critical") for alert in own)
    return AlertTrial(len(own), pages, len(common), len(first), sorted(first.values()))


class _Fleet(NamedTuple):
    registry: Registry
    detectors: DetectorFleet


def _fleet(past: list[Day], names: list[str], pages_a_week: float) -> _Fleet:
    """Devices that have learnt their own reference."""
    _, reference = learn(past)
    cells = np.sum([day.counts.sum(axis=(0, 1), dtype=np.int64) for day in past], axis=0).reshape(len(ROLES), BINS)
    shares = cells.sum(axis=1) / cells.sum()
    baseline = Baseline.of(cells[:, None, :] * np.eye(len(ROLES), dtype=np.int64)[:, :, None], shares.tolist())
    labels = [Label("good", "good"), Label("defect", "defect")]
    model = Model(model=MODEL.hex(), name="trial", runtime="", precision="", labels=labels, baseline=baseline)
    places = {
        name: Device(device=name, site=name[:3], product="part", imported=True, model=model.model) for name in names
    }
    registry = Registry(places)
    detectors = DetectorFleet({model.model: model}, registry, Settings(pages_a_week=pages_a_week))
    watch = detectors.watch(model.model)
    if watch is not None:
        watch.own |= {name: reference.take(np.array([at])) for at, name in enumerate(names)}
    return _Fleet(registry, detectors)


def _entries(names: list[str], day: Day, minute: int, at_ms: int) -> list[Entry]:
    entries = []
    for at, name in enumerate(names):
        counts = day.counts[at, minute].astype(np.int64)
        histogram = ConfidenceHistogram.of(counts.reshape(len(ROLES), BINS))
        frames, same, identical = int(counts.sum()), int(day.same[at, minute]), int(day.identical[at, minute])
        report = DeviceReport(
            schema=SCHEMA,
            epoch=0,
            sequence=at_ms // MINUTE_MS,
            boot=1,
            wall_ms=at_ms,
            monotonic_ms=at_ms,
            interval_ms=MINUTE_MS,
            model=MODEL,
            frames=frames,
            dropped=0,
            parts=0,
            same=same,
            identical=identical,
            histogram=histogram,
        )
        cells = histogram.cells
        entries.append(Entry(name, report, b"", at_ms, at_ms, cells, frames, 0, same, identical, live=True))
    return entries
