"""What the store says of the fleet right now: one Struct for `status`, `watch` and the page."""

from __future__ import annotations

from collections import defaultdict

import msgspec
from sqlalchemy import BigInteger, Float, case, cast, func, literal, select
from sqlalchemy.engine import Connection

from device_agent.contract.alert import Alert
from fleet.alerts import read_alerts
from fleet.gaps import read_gaps
from fleet.heartbeat import Heartbeat, read_heard, read_heartbeat, say_trouble
from fleet.models import read_models
from fleet.reading import Reading
from fleet.registry import Device, Health, Heard, read_devices
from fleet.schema import DETECTOR, DEVICE, QUARANTINE, REPORT, SPOOL

RATE_MS = 300_000
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


class FleetStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The fleet at `at_ms`. `trouble`: what keeps the monitor from being up to date, empty while all is well."""

    at_ms: int
    monitor: Heartbeat | None
    trouble: str
    devices: list[DeviceStatus]
    open_alerts: int
    quarantined: int

    @property
    def silent(self) -> dict[str, int | None]:
        """Devices that send nothing any more, with the time of their last report."""
        return {d.device: d.silent_since_ms for d in self.devices if d.health in SILENT}


def read_status(tx: Connection, now_ms: int) -> FleetStatus:
    """The status of every device in the store."""
    models, shown = read_models(tx), [alert for alert in read_alerts(tx) if not alert.inhibited_by]
    concerning: dict[str, list[Alert]] = defaultdict(list)
    for alert in shown:
        for name in alert.devices:
            concerning[name].append(alert)
    readings = read_readings(tx)
    passed = tx.execute(select(SPOOL.c.device, func.sum(SPOOL.c.missing)).group_by(SPOOL.c.device))
    missing = {device: int(count) for device, count in passed}
    gaps, rates = read_gaps(tx), _rates(tx, now_ms)
    beat, heard = read_heartbeat(tx), read_heard(tx, now_ms)
    names = {model_id: model.name for model_id, model in models.items()}
    devices = []
    for device in read_devices(tx):
        reading = readings.get((device.device, device.model or ""))
        rate = 0.0 if device.health(Heard(now_ms)) in SILENT else rates.get(device.device)
        name = names.get(device.model or "", "")
        health = device.health(heard)
        concerned = concerning[device.device]
        counts = missing.get(device.device, 0), gaps.get(device.device, 0)
        devices.append(_device_status(device, health, reading, concerned, name, *counts, rate))
    quarantined = tx.scalar(select(func.coalesce(func.sum(QUARANTINE.c.times), 0))) or 0
    return FleetStatus(
        at_ms=now_ms,
        monitor=beat,
        trouble=say_trouble(beat, now_ms),
        devices=devices,
        open_alerts=len(shown),
        quarantined=int(quarantined),
    )


def read_readings(tx: Connection) -> dict[tuple[str, str], Reading]:
    """The last reading of each (device, model)."""
    rows = tx.execute(select(DETECTOR.c.device, DETECTOR.c.model, DETECTOR.c.reading))
    return {(row.device, row.model): msgspec.json.decode(row.reading, type=Reading) for row in rows}


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
    order = ("critical", "page", "warn", "info")
    severity = min((alert.severity for alert in alerts), key=order.index, default="")
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


def _rates(tx: Connection, now_ms: int) -> dict[str, float]:
    """Frames a minute of each device, from the start of the oldest of its recent reports to the end of the newest."""
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
    return {name: 60_000 * count / (last - first + span) for name, count, first, last, span in tx.execute(asked)}
