"""Replay: the stored reports through a fresh detector, to see what would have fired. Nothing in the store changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec
from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from device_agent.contract.alert import SEVERITIES, Alert
from device_agent.contract.report import read_report
from fleet.alerts import AlertBook
from fleet.detector_fleet import DetectorFleet, Settings
from fleet.ledger import Entry
from fleet.matching import read_facts
from fleet.models import read_models
from fleet.registry import Device, Registry, read_devices
from fleet.routes.settings import RouteSettings
from fleet.schema import REPORT
from fleet.silences import find_silence, read_silences

NEVER_MS = 2**62


class RouteReplay(msgspec.Struct, frozen=True):
    """What a route would have been told if nobody had taken note of anything: alerts, and messages with those that say
    that an alert is closed, reminders and digests left out."""

    route: str
    alerts: int
    messages: int


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """What would have fired. `alerts` in the order in which they opened, those inhibited by another alert too, which
    are not in the counts; `silenced`: those of the counts that a silence or window of the store covers from first to
    last."""

    reports: int
    frames: int
    devices: int
    from_ms: int | None
    to_ms: int | None
    pages_a_week: float
    page_at: float
    warn_at: float
    fired: int
    pages: int
    warnings: int
    by_severity: dict[str, int]
    by_scope: dict[str, int]
    silenced: int
    routes: list[RouteReplay]
    alerts: list[Alert]


def replay(
    tx: Connection, settings: Settings, *, hold_windows: int = 3, routes: Sequence[RouteSettings] = ()
) -> Replay:
    """Run every stored report, in order of time, through a detector that starts from nothing. Nothing is sent.

    Args:
        routes: of which it is said what they would have been told.
    """
    registry = _fresh_registry(tx)
    fleet = DetectorFleet(read_models(tx), registry, settings)
    book = AlertBook(registry, hold_windows=hold_windows)
    raised: dict[str, Alert] = {}
    reports = frames = 0
    for entries in _moments(tx):
        for entry in entries:
            if registry.hear_report(entry):
                fleet.forget(entry.device)
                closed = book.calm({entry.device}, "the device changed its model", entry.at_ms)
                raised.update((change.alert.id, change.alert) for change in closed)
        now_ms = entries[-1].at_ms
        for change in book.step(fleet.readings, set(fleet.feed(entries)) & fleet.readings.keys(), now_ms):
            raised[change.alert.id] = change.alert
        fleet.learn(entries)
        reports, frames = reports + len(entries), frames + sum(entry.frames for entry in entries)
    alerts = sorted(raised.values(), key=lambda alert: (alert.opened_ms, alert.id))
    shown = [alert for alert in alerts if not alert.inhibited_by]
    silenced = _silenced(tx, shown)
    first, last = tx.execute(select(func.min(REPORT.c.at_ms), func.max(REPORT.c.at_ms))).one()
    return Replay(
        reports=reports,
        frames=frames,
        devices=sum(device.reports > 0 for device in registry.devices.values()),
        from_ms=first,
        to_ms=last,
        pages_a_week=settings.pages_a_week,
        page_at=fleet.page_at,
        warn_at=fleet.warn_at,
        fired=len(shown),
        by_severity={severity: sum(alert.severity == severity for alert in shown) for severity in reversed(SEVERITIES)},
        by_scope=dict(Counter(f"{alert.scope_kind} {alert.scope}" for alert in shown).most_common()),
        silenced=len(silenced),
        routes=_told(tx, [alert for alert in shown if alert.id not in silenced], routes),
        pages=sum(alert.severity in ("page", "critical") for alert in shown),
        warnings=sum(alert.severity == "warn" for alert in shown),
        alerts=alerts,
    )


def _silenced(tx: Connection, alerts: list[Alert]) -> set[str]:
    """Alerts that a silence of the store covers from first to last."""
    silences, facts = read_silences(tx), read_facts(tx, alerts)
    found = [(alert, find_silence(silences, facts[alert.id], alert.opened_ms)) for alert in alerts]
    return {alert.id for alert, silence in found if silence and (alert.closed_ms or NEVER_MS) <= silence[1]}


def _told(tx: Connection, alerts: list[Alert], routes: Sequence[RouteSettings]) -> list[RouteReplay]:
    facts, told = read_facts(tx, alerts), []
    for route in routes:
        wanted = [alert for alert in alerts if route.matcher.fits(facts[alert.id])]
        late = [alert for alert in wanted if (alert.closed_ms or NEVER_MS) - alert.opened_ms >= route.after_ms]
        told.append(RouteReplay(route.name, len(late), len(late) + sum(alert.closed_ms is not None for alert in late)))
    return told


def _fresh_registry(tx: Connection) -> Registry:
    """Devices where they stand, with their intervals, and nothing heard of them yet."""
    kept = ("device", "site", "line", "product", "imported", "interval_ms", "model")
    known = {device.device: {name: getattr(device, name) for name in kept} for device in read_devices(tx)}
    return Registry({name: msgspec.convert(fields, Device) for name, fields in known.items()})


def _moments(tx: Connection) -> Iterator[list[Entry]]:
    """Stored reports in order of time; those of different devices that fall into one second together."""
    columns = (REPORT.c.device, REPORT.c.at_ms, REPORT.c.received_ms, REPORT.c.payload)
    rows = tx.execution_options(yield_per=1000).execute(select(*columns).order_by(REPORT.c.at_ms, REPORT.c.device))
    batch: dict[str, Entry] = {}
    second = None
    for device, at_ms, received_ms, payload in rows:
        if batch and (device in batch or at_ms // 1000 != second):
            yield list(batch.values())
            batch = {}
        second = at_ms // 1000
        report = read_report(payload)
        batch[device] = Entry(
            device=device,
            report=report,
            payload=payload,
            received_ms=received_ms,
            at_ms=at_ms,
            cells=report.histogram.cells,
            frames=report.frames,
            dropped=report.dropped,
            same=report.same,
            identical=report.identical,
        )
    if batch:
        yield list(batch.values())
