"""How many: the fleet in numbers, by a few queries that stay cheap with a hundred thousand devices."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from sqlalchemy import BigInteger, Engine, case, func, literal, select
from sqlalchemy.engine import Connection

from device_agent.contract.alert import SEVERITIES
from device_agent.contract.errors import LinesideError
from fleet.alerts import read_alerts
from fleet.heartbeat import read_heartbeat
from fleet.schema import DEVICE, QUARANTINE, SPOOL

FRESH_INTERVALS, FRESH_MS = 3, 30_000
"""A device reports while its last report is younger than three of its intervals and 30 s."""


class Census(msgspec.Struct, frozen=True, kw_only=True):
    """The fleet at one moment. `devices` by what they do: "reporting", "silent", "never" (not one report yet); `alerts`
    open and shown, by severity; `reports` and `frames` stored of all devices ever; `missing` reports that no device
    holds any more; `beat_age_s` since a monitor last wrote, None before the first."""

    devices: dict[str, int]
    alerts: dict[str, int]
    reports: int
    frames: int
    missing: int
    quarantined: int
    beat_age_s: float | None

    def families(self) -> Iterator[tuple[str, str, str, dict[str, float]]]:
        """Name, help, label ("" for none) and values of each metric."""
        yield "devices", "Devices by what they do.", "state", dict(self.devices)
        yield "alerts_open", "Alerts that are open and not covered by another.", "severity", dict(self.alerts)
        yield "reports", "Reports stored, of all devices.", "", {"": self.reports}
        yield "frames", "Frames reported, of all devices.", "", {"": self.frames}
        yield "missing_reports", "Reports that no device holds any more.", "", {"": self.missing}
        yield "quarantined_messages", "Messages set aside as unreadable.", "", {"": self.quarantined}
        if self.beat_age_s is not None:
            yield "heartbeat_age_seconds", "Since a monitor last wrote to the store.", "", {"": self.beat_age_s}


def take_census(engine: Engine, now_ms: int) -> Census | None:
    """The census of a store; None while the store does not answer."""
    try:
        with engine.connect() as tx:
            return count(tx, now_ms)
    except LinesideError:
        return None


def count(tx: Connection, now_ms: int) -> Census:
    """The census, read in this transaction."""
    interval = func.coalesce(DEVICE.c.interval_ms, literal(60_000, BigInteger))
    fresh = DEVICE.c.last_report_ms >= literal(now_ms - FRESH_MS, BigInteger) - FRESH_INTERVALS * interval
    state = case((DEVICE.c.last_report_ms.is_(None), "never"), (fresh, "reporting"), else_="silent").label("state")
    asked = select(state, func.count(), func.sum(DEVICE.c.reports), func.sum(DEVICE.c.frames)).group_by(state)
    rows = tx.execute(asked).all()
    alerts = dict.fromkeys(SEVERITIES, 0)
    for alert in read_alerts(tx):
        if not alert.inhibited_by:
            alerts[alert.severity] += 1
    beat = read_heartbeat(tx)
    return Census(
        devices={"reporting": 0, "silent": 0, "never": 0} | {row[0]: int(row[1]) for row in rows},
        alerts={str(severity): number for severity, number in alerts.items()},
        reports=int(sum(row[2] or 0 for row in rows)),
        frames=int(sum(row[3] or 0 for row in rows)),
        missing=int(tx.scalar(select(func.sum(SPOOL.c.missing))) or 0),
        quarantined=int(tx.scalar(select(func.sum(QUARANTINE.c.times))) or 0),
        beat_age_s=max(0.0, (now_ms - beat.at_ms) / 1000) if beat is not None else None,
    )
