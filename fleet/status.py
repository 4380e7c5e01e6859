"""What the store says of the fleet right now: one Struct for `status`, `watch` and the page."""

from __future__ import annotations

from collections import Counter, defaultdict

import msgspec
from sqlalchemy import BigInteger, Float, case, cast, func, literal, select
from sqlalchemy.engine import Connection

from device_agent.contract.alert import SEVERITIES, Alert
from fleet.alerts import read_alerts
from fleet.gaps import read_gaps
from fleet.heartbeat import Heartbeat, read_heard, read_heartbeat, say_trouble
from fleet.models import read_models
from fleet.overview import MOST_CONCERNED, URGENCY, Asked, choose, count_places, find_devices
from fleet.reading import Reading
from fleet.registry import Device, Health, Heard
from fleet.schema import DETECTOR, DEVICE, QUARANTINE, REPORT, SPOOL

MINUTE_MS, RATE_MS = 60_000, 300_000
LONGEST_MS = 86_400_000
SILENT = ("silent", "offline")


class DeviceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One device. Times in wall-clock ms; `health` and `silent_since_ms` as of when the monitor last heard devices.
    `frames_per_minute` over the last five minutes and two reports, 0 when none comes any more; `missing` counts reports
    that the device no longer had, `gaps` its boots before which frames are in no report, `score` with the scores at
    which it warns and pages (natural log of an e-value)."""

    device: str
    site: str
    line: str
    product: str
    health: Health
    silent_since_ms: int | None
    reason: str
    last_report_ms: int | None
    model: str | None
    model_name: str
    runtime: str
    reports: int
    frames: int
    dropped: int
    missing: int
    gaps: int
    frames_per_minute: float | None
    score: float | None
    warn_at: float | None
    page_at: float | None
    armed: bool | None
    alerts: list[str]
    severity: str


class SiteStatus(msgspec.Struct, frozen=True):
    """Devices of a site by health, and how many of them open alerts name."""

    site: str
    devices: int
    health: dict[str, int]
    alerted: int


class FleetStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The fleet at `at_ms`. `trouble`: what keeps the monitor from being up to date, empty while all is well.
    `devices` are those that were asked for, of `matching` ones. All else is of the whole fleet: devices by health,
    sites (those with the most trouble first), frames a minute, reports that are missing, and `silent`: those of the
    devices shown or named by alerts that send nothing any more, with the time of their last report."""

    at_ms: int
    monitor: Heartbeat | None
    trouble: str
    devices: list[DeviceStatus]
    matching: int
    health: dict[str, int]
    sites: list[SiteStatus]
    silent: dict[str, int | None]
    frames_per_minute: float
    missing: int
    open_alerts: int
    quarantined: int

    @property
    def all_devices(self) -> int:
        """Devices of the whole fleet."""
        return sum(self.health.values())


def read_status(tx: Connection, now_ms: int, asked: Asked = Asked()) -> FleetStatus:  # noqa: B008
    """The status of the fleet, and of the devices that are asked for; without any limit of every device."""
    shown = [alert for alert in read_alerts(tx) if not alert.inhibited_by]
    concerning: dict[str, list[Alert]] = defaultdict(list)
    for alert in shown:
        for name in alert.devices:
            concerning[name].append(alert)
    worst = {name: max((one.severity for one in alerts), key=SEVERITIES.index) for name, alerts in concerning.items()}
    beat, heard = read_heartbeat(tx), read_heard(tx, now_ms)
    places = count_places(tx, heard)
    chosen, matching = choose(tx, asked, heard, worst, places)
    rows = _device_rows(tx, chosen, concerning, heard, now_ms, whole=asked.limit is None)
    named = chosen if asked.limit is None else [*chosen, *find_devices(tx, sorted(worst)[:MOST_CONCERNED])]
    quarantined = tx.scalar(select(func.coalesce(func.sum(QUARANTINE.c.times), 0))) or 0
    missing = tx.scalar(select(func.coalesce(func.sum(SPOOL.c.missing), 0))) or 0
    return FleetStatus(
        at_ms=now_ms,
        monitor=beat,
        trouble=say_trouble(beat, now_ms),
        devices=rows,
        matching=matching,
        health={health: sum(one.get(health, 0) for one in places.values()) for health in URGENCY},
        sites=_sites(tx, places, set(worst)),
        silent={one.device: one.last_report_ms for one in named if one.health(heard) in SILENT},
        frames_per_minute=_whole_rate(tx, rows, asked, now_ms),
        missing=int(missing),
        open_alerts=len(shown),
        quarantined=int(quarantined),
    )


def read_readings(tx: Connection, devices: list[str] | None = None) -> dict[tuple[str, str], Reading]:
    """The last reading of each (device, model), of all devices or of those that are named."""
    query = select(DETECTOR.c.device, DETECTOR.c.model, DETECTOR.c.reading)
    rows = tx.execute(query if devices is None else query.where(DETECTOR.c.device.in_(devices)))
    return {(row.device, row.model): msgspec.json.decode(row.reading, type=Reading) for row in rows}


def _device_rows(
    tx: Connection, chosen: list[Device], concerning: dict[str, list[Alert]], heard: Heard, now_ms: int, *, whole: bool
) -> list[DeviceStatus]:
    only = None if whole else [device.device for device in chosen]
    readings, rates, gaps = read_readings(tx, only), _rates(tx, now_ms, only), read_gaps(tx, only)
    passed = select(SPOOL.c.device, func.sum(SPOOL.c.missing)).group_by(SPOOL.c.device)
    found = tx.execute(passed if only is None else passed.where(SPOOL.c.device.in_(only)))
    missing = {device: int(count) for device, count in found}
    names = {model_id: model.name for model_id, model in read_models(tx).items()}
    rows = []
    for device in chosen:
        reading = readings.get((device.device, device.model or ""))
        rate = 0.0 if device.health(Heard(now_ms)) in SILENT else rates.get(device.device)
        counts = missing.get(device.device, 0), gaps.get(device.device, 0)
        name = names.get(device.model or "", "")
        concerned = concerning.get(device.device, [])
        rows.append(_device_status(device, device.health(heard), reading, concerned, name, *counts, rate))
    return rows


def _sites(tx: Connection, places: dict[str, dict[str, int]], alerted: set[str]) -> list[SiteStatus]:
    """Sites, those with the most alerted devices first, then those with the most that say nothing."""
    counts = Counter(device.site for device in find_devices(tx, sorted(alerted)[:MOST_CONCERNED]))
    sites = [SiteStatus(site, sum(health.values()), health, counts[site]) for site, health in places.items()]
    quiet = {one.site: sum(one.health.get(state, 0) for state in SILENT) for one in sites}
    return sorted(sites, key=lambda one: (-one.alerted, -quiet[one.site], one.site))


def _whole_rate(tx: Connection, rows: list[DeviceStatus], asked: Asked, now_ms: int) -> float:
    """Frames a minute of the whole fleet: the sum over its devices where they are all at hand, else what was reported
    in the minute before the last one."""
    if asked.limit is None and asked == Asked(order=asked.order):
        return sum(row.frames_per_minute or 0.0 for row in rows)
    until = literal(now_ms - MINUTE_MS, BigInteger)
    recent = REPORT.c.batch.between(until - MINUTE_MS + 1, until)  # batches are numbered by the time that they came
    return float(tx.scalar(select(func.sum(cast(REPORT.c.frames, Float))).where(recent)) or 0.0)


def _device_status(
    device: Device,
    health: Health,
    reading: Reading | None,
    alerts: list[Alert],
    model_name: str,
    missing: int,
    gaps: int,
    rate: float | None,
) -> DeviceStatus:
    severity = max((alert.severity for alert in alerts), key=SEVERITIES.index, default="")
    return DeviceStatus(
        device=device.device,
        site=device.site,
        line=device.line,
        product=device.product,
        health=health,
        silent_since_ms=device.last_report_ms if health in SILENT else None,
        reason=device.reason or "",
        last_report_ms=device.last_report_ms,
        model=device.model,
        model_name=model_name,
        runtime=device.runtime or "",
        reports=device.reports,
        frames=device.frames,
        dropped=device.dropped,
        missing=missing,
        gaps=gaps,
        frames_per_minute=rate,
        score=reading.score if reading else None,
        warn_at=reading.warn_at if reading else None,
        page_at=reading.page_at if reading else None,
        armed=reading.armed if reading else None,
        alerts=[alert.id for alert in alerts],
        severity=severity,
    )


def _rates(tx: Connection, now_ms: int, only: list[str] | None) -> dict[str, float]:
    """Frames a minute of each device, or of `only` some, from the start of the oldest of its recent reports to the end
    of the newest."""
    most, usual = literal(LONGEST_MS, BigInteger), literal(60_000, BigInteger)
    interval = case((DEVICE.c.interval_ms > most, most), else_=func.coalesce(DEVICE.c.interval_ms, usual))
    since, until = literal(now_ms - RATE_MS + 1, BigInteger), literal(now_ms, BigInteger)
    recent = (REPORT.c.device == DEVICE.c.device) & REPORT.c.at_ms.between(since - 2 * interval, until + interval)
    each = func.avg(cast(case((REPORT.c.interval_ms > most, most), else_=REPORT.c.interval_ms), Float))
    frames = func.sum(cast(REPORT.c.frames, Float))
    asked = (
        select(DEVICE.c.device, frames, func.min(REPORT.c.at_ms), func.max(REPORT.c.at_ms), each)
        .join(REPORT, recent)
        .group_by(DEVICE.c.device)
    )
    asked = asked if only is None else asked.where(DEVICE.c.device.in_(only))
    return {name: 60_000 * count / (last - first + span) for name, count, first, last, span in tx.execute(asked)}
