"""What the store says of the fleet right now: one Struct for `status`, `watch` and the page."""

from __future__ import annotations

import msgspec
from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from device_agent.contract.alert import Alert
from fleet.alerts import read_alerts
from fleet.models import read_models
from fleet.reading import Reading
from fleet.registry import Device, Health, read_devices
from fleet.schema import DETECTOR, QUARANTINE, REPORT, SPOOL

RATE_MS = 300_000


class DeviceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One device. Times in wall-clock ms, `frames_per_minute` over the last five minutes, `missing` counts reports that
    the device no longer had, `score` with the scores at which it warns and pages (natural log of an e-value)."""

    device: str
    site: str
    line: str
    product: str
    health: Health
    reason: str
    last_report_ms: int | None
    model: str | None
    model_name: str
    runtime: str
    reports: int
    frames: int
    dropped: int
    missing: int
    frames_per_minute: float | None
    score: float | None
    warn_at: float | None
    page_at: float | None
    armed: bool | None
    alerts: list[str]
    severity: str


class FleetStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The fleet at `at_ms`."""

    at_ms: int
    devices: list[DeviceStatus]
    open_alerts: int
    quarantined: int


def read_status(tx: Connection, now_ms: int) -> FleetStatus:
    """The status of every device in the store."""
    models, alerts = read_models(tx), read_alerts(tx)
    readings = read_readings(tx)
    passed = tx.execute(select(SPOOL.c.device, func.sum(SPOOL.c.missing)).group_by(SPOOL.c.device))
    missing = {device: int(count) for device, count in passed}
    rates = _rates(tx, now_ms)
    names = {model_id: model.name for model_id, model in models.items()}
    devices = []
    for device in read_devices(tx):
        reading = readings.get((device.device, device.model or ""))
        concerned = [a for a in alerts if device.device in a.devices and not a.inhibited_by]
        devices.append(
            _device_status(device, reading, concerned, names, missing.get(device.device, 0), rates, now_ms=now_ms)
        )
    quarantined = tx.scalar(select(func.coalesce(func.sum(QUARANTINE.c.times), 0))) or 0
    shown = [alert for alert in alerts if not alert.inhibited_by]
    return FleetStatus(at_ms=now_ms, devices=devices, open_alerts=len(shown), quarantined=int(quarantined))


def read_readings(tx: Connection) -> dict[tuple[str, str], Reading]:
    """The last reading of each (device, model)."""
    rows = tx.execute(select(DETECTOR.c.device, DETECTOR.c.model, DETECTOR.c.reading))
    return {(row.device, row.model): msgspec.json.decode(row.reading, type=Reading) for row in rows}


def _device_status(
    device: Device,
    reading: Reading | None,
    alerts: list[Alert],
    names: dict[str, str],
    missing: int,
    rates: dict[str, float],
    *,
    now_ms: int,
) -> DeviceStatus:
    order = ("critical", "page", "warn", "info")
    severity = min((alert.severity for alert in alerts), key=order.index, default="")
    return DeviceStatus(
        device=device.device,
        site=device.site,
        line=device.line,
        product=device.product,
        health=device.health(now_ms),
        reason=device.reason or "",
        last_report_ms=device.last_report_ms,
        model=device.model,
        model_name=names.get(device.model or "", ""),
        runtime=device.runtime or "",
        reports=device.reports,
        frames=device.frames,
        dropped=device.dropped,
        missing=missing,
        frames_per_minute=rates.get(device.device),
        score=reading.score if reading else None,
        warn_at=reading.warn_at if reading else None,
        page_at=reading.page_at if reading else None,
        armed=reading.armed if reading else None,
        alerts=[alert.id for alert in alerts],
        severity=severity,
    )


def _rates(tx: Connection, now_ms: int) -> dict[str, float]:
    """Frames a minute of each device over its reports of the last five minutes."""
    recent = (
        select(REPORT.c.device, func.sum(REPORT.c.frames), func.sum(REPORT.c.interval_ms))
        .where(REPORT.c.at_ms > now_ms - RATE_MS)
        .group_by(REPORT.c.device)
    )
    return {device: 60_000 * int(frames) / int(span) for device, frames, span in tx.execute(recent) if span}
