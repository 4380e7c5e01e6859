"""The pages: the fleet, one device, alerts. Every two seconds they read the store again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from nicegui import ui
from sqlalchemy import Engine

from device_agent.contract.alert import Alert
from fleet.alerts import read_alerts
from fleet.heartbeat import read_heard, read_heartbeat, say_trouble
from fleet.history import DeviceHistory, read_history
from fleet.registry import Health
from fleet.status import SILENT, DeviceStatus, FleetStatus, read_status
from fleet.web import cells, charts
from fleet.web.accuracy import add_accuracy
from fleet.web.cards import alert_card, say_age

EVERY_S = 2.0
PAGE_ROWS = 50
STYLE = Path(__file__).with_name("static") / "page.css"
COLUMNS = (
    ("device", "Device", "left"),
    ("alert", "Alert", "left"),
    ("score", "Evidence of drift", "left"),
    ("health", "Health", "left"),
    ("seen", "Last report", "right"),
    ("rate", "Frames/min", "right"),
    ("site", "Site", "left"),
    ("line", "Line", "left"),
    ("product", "Product", "left"),
    ("model", "Model", "left"),
)
CLOSED_SHOWN = 50
Draw = Callable[[], Any]
HEALTH_ORDER = {"offline": 0, "silent": 1, "never": 2, "online": 3}


def add_pages(engine: Engine) -> None:
    """Register the pages with NiceGUI."""

    @ui.page("/")
    async def fleet_page() -> None:
        await _show("Fleet", engine, _fleet)

    @ui.page("/device/{device}")
    async def device_page(device: str) -> None:
        await _show(device, engine, partial(_device, name=device))

    @ui.page("/alerts")
    async def alerts_page() -> None:
        await _show("Alerts", engine, _alerts)


async def _show(title: str, engine: Engine, make: Callable[[Engine], Draw]) -> None:
    """A page with the monitor's own trouble above what `make` puts there, drawn again every `EVERY_S`."""
    _frame(title)
    trouble = ui.label().classes("ls-trouble")
    draw_page = make(engine)

    async def draw() -> None:
        trouble.text = await asyncio.to_thread(_read_trouble, engine)
        trouble.set_visibility(bool(trouble.text))
        await draw_page()

    await draw()
    ui.timer(EVERY_S, draw)


def _read_trouble(engine: Engine) -> str:
    with engine.connect() as tx:
        return say_trouble(read_heartbeat(tx), _clock_ms())


def _frame(title: str) -> None:
    ui.add_css(STYLE)
    ui.page_title(f"{title} · lineside fleet")
    with ui.row().classes("ls-bar"):
        ui.link("lineside", "/").classes("ls-brand")
        ui.link("Fleet", "/").classes("ls-nav")
        ui.link("Alerts", "/alerts").classes("ls-nav")


def _fleet(engine: Engine) -> Draw:
    """The page of all devices; what it returns reads and draws again."""
    with ui.column().classes("ls-page"):
        tiles = ui.row().classes("ls-tiles")
        columns = [{"name": n, "label": label, "field": n, "align": a, "sortable": True} for n, label, a in COLUMNS]
        with ui.card().classes("ls-card ls-wide"):
            table = (
                ui.table(columns=columns, rows=[], row_key="device", pagination=PAGE_ROWS)
                .classes("ls-table")
                .props("flat")
            )
        for name, cell in (
            ("device", cells.DEVICE),
            ("health", cells.HEALTH),
            ("score", cells.SCORE),
            ("alert", cells.BADGE),
            *((name, cells.NAME) for name in ("site", "line", "product", "model")),
        ):
            table.add_slot(f"body-cell-{name}", cell)
        open_alerts = ui.column().classes("ls-wide")

    async def draw() -> None:
        status, alerts = await asyncio.to_thread(_read_fleet, engine)
        sites = {alert.id for alert in alerts if alert.scope_kind == "site"}
        table.rows = [_row(device, sites, status.at_ms) for device in sorted(status.devices, key=_urgency)]
        few = len(table.rows) <= PAGE_ROWS
        table.props(add="hide-pagination" if few else "", remove="" if few else "hide-pagination")
        table.update()
        tiles.clear()
        with tiles:
            _tiles(status, alerts)
        open_alerts.clear()
        with open_alerts:
            for alert in alerts:
                alert_card(alert, status.at_ms, status.silent)

    return draw


def _read_fleet(engine: Engine) -> tuple[FleetStatus, list[Alert]]:
    with engine.connect() as tx:
        return read_status(tx, _clock_ms()), [alert for alert in read_alerts(tx) if not alert.inhibited_by]


def _urgency(device: DeviceStatus) -> tuple[int, int, str, str]:
    severities = ("critical", "page", "warn", "info", "")
    return severities.index(device.severity), HEALTH_ORDER[device.health], device.site, device.device


def _tiles(status: FleetStatus, alerts: list[Alert]) -> None:
    online = sum(device.health == "online" for device in status.devices)
    paging = sum(alert.severity in ("page", "critical") for alert in alerts)
    rate = sum(device.frames_per_minute or 0 for device in status.devices)
    missing = sum(device.missing for device in status.devices)
    all_well = online == len(status.devices) and not status.trouble
    _tile("Devices online", f"{online} / {len(status.devices)}", "good" if all_well else "warn")
    _tile("Pages open", str(paging), "page" if paging else "good")
    _tile("Warnings open", str(len(alerts) - paging), "warn" if len(alerts) > paging else "good")
    _tile("Frames a minute", f"{rate:,.0f}", "")
    _tile("Reports missing", str(missing), "warn" if missing else "")
    _tile("In quarantine", str(status.quarantined), "warn" if status.quarantined else "")


def _tile(name: str, value: str, tone: str) -> None:
    with ui.column().classes("ls-tile"):
        ui.label(name).classes("ls-tile-name")
        ui.label(value).classes(f"ls-tile-value ls-tone-{tone}")


def _row(device: DeviceStatus, sites: set[str], now_ms: int) -> dict[str, Any]:
    score, warn_at, page_at = device.score or 0.0, device.warn_at or 1.0, device.page_at or 1.0
    full = 1.25 * page_at
    return {
        "device": device.device,
        "health": device.health,
        "site": device.site,
        "line": device.line,
        "product": device.product,
        "model": device.model_name or device.model or "–",
        "seen": say_age(device.last_report_ms, now_ms),
        "rate": "–" if device.frames_per_minute is None else f"{device.frames_per_minute:,.0f}",
        "score": None if device.score is None else round(score, 1),
        "width": round(100 * min(score / full, 1)),
        "warn": round(100 * warn_at / full),
        "page": round(100 * page_at / full),
        "page_at": round(page_at, 1),
        "tone": "page" if score >= page_at else "warn" if score >= warn_at else "good",
        "alert": device.severity,
        "alert_text": f"site {device.severity}" if sites.issuperset(device.alerts) else device.severity,
    }


def _device(engine: Engine, name: str) -> Draw:
    """The page of one device; what it returns reads and draws again."""
    drawings: dict[str, tuple[Callable[[DeviceHistory | None], charts.Options], ui.echart]] = {}
    with ui.column().classes("ls-page"):
        head = ui.column().classes("ls-wide")
        above = ui.column().classes("ls-wide")
        with ui.element("div").classes("ls-grid"):
            for title, note, make in (
                ("Evidence of drift", "natural log of the e-value; dashed: warn and page", charts.score),
                ("Confidence", "share of frames by top-1 probability, last 60 reports, log scale", charts.confidence),
                ("Predicted classes", "share of frames, last 60 reports, log scale", charts.classes),
                ("Pictures", "sharpness (left) and brightness (right)", charts.quality),
                ("Inference", "median time of one frame", charts.latency),
            ):
                with ui.card().classes("ls-card"):
                    ui.label(title).classes("ls-title")
                    ui.label(note).classes("ls-note")
                    drawings[title] = (make, ui.echart(make(None)).classes("ls-chart"))
            with ui.card().classes("ls-card"):
                ui.label("Latency by stage").classes("ls-title")
                ui.label("last 60 reports, upper edges of buckets").classes("ls-note")
                stages = ui.column().classes("ls-wide")
        add_accuracy(engine, name)
        below = ui.column().classes("ls-wide")

    async def draw() -> None:
        history, health = await asyncio.to_thread(_read_device, engine, name)
        head.clear()
        with head:
            _head(name, history, health)
        if history is None:
            return
        for make, chart in drawings.values():
            chart.options.update(make(history))
            chart.update()
        above.clear()
        with above:
            _open_alerts(history, health)
        stages.clear()
        with stages:
            _stages(history)
        below.clear()
        with below:
            _below(history)

    return draw


def _read_device(engine: Engine, name: str) -> tuple[DeviceHistory | None, Health]:
    with engine.connect() as tx:
        history = read_history(tx, name)
        return history, history.device.health(read_heard(tx, _clock_ms())) if history else "never"


def _head(name: str, history: DeviceHistory | None, health: Health) -> None:
    if history is None:
        ui.label(f"No device {name!r} is known here.").classes("ls-h1")
        return
    device, now_ms = history.device, _clock_ms()
    with ui.row().classes("ls-head"):
        ui.label(name).classes("ls-h1")
        ui.html(f'<span class="ls-dot ls-dot-{health}"></span>{health}', sanitize=False).classes("ls-health")
        ui.label(" · ".join(filter(None, (device.site, device.line, device.product)))).classes("ls-sub")
    facts = {
        "Last report": say_age(device.last_report_ms, now_ms),
        "Model": " ".join(filter(None, (history.model_name, device.model))) or "–",
        "Runtime": device.runtime or "–",
        "Agent": device.agent or "–",
        "Reports": f"{device.reports:,}",
        "Frames": f"{device.frames:,}",
        "Dropped": f"{device.dropped:,}",
        "Peers": str(history.reading.peers) if history.reading else "–",
    }
    with ui.row().classes("ls-facts"):
        for label, value in facts.items():
            with ui.column().classes("ls-fact"):
                ui.label(label).classes("ls-tile-name")
                ui.label(value).classes("ls-fact-value")
    if history.reading and not history.reading.armed:
        ui.label(
            "Normal is not known yet: the line's prevalence is estimated from the first day, and only info is raised."
        ).classes("ls-hint")


def _stages(history: DeviceHistory) -> None:
    with ui.element("div").classes("ls-stages"):
        for text in ("stage", "p50", "p99"):
            ui.label(text).classes("ls-tile-name")
        for stage in history.stages:
            ui.label(stage.name)
            for value in (stage.p50_ms, stage.p99_ms):
                ui.label("–" if value is None else f"{value:.2f} ms").classes("ls-number")


def _open_alerts(history: DeviceHistory, health: Health) -> None:
    device = history.device
    silent = {device.device: device.last_report_ms} if health in SILENT else {}
    for alert in history.alerts:
        if alert.closed_ms is None:
            alert_card(alert, _clock_ms(), silent)


def _below(history: DeviceHistory) -> None:
    now_ms = _clock_ms()
    for alert in [alert for alert in history.alerts if alert.closed_ms is not None][:6]:
        alert_card(alert, now_ms, {})
    if history.gaps:
        lost = ", ".join(f"{say_age(end, now_ms)} ({(end - start) / 1000:.0f} s)" for start, end in history.gaps[-6:])
        ui.label(f"Silent for more than three intervals: {lost}").classes("ls-hint")
    for at_ms, kind, text in history.events[:8]:
        with ui.row().classes("ls-event"):
            ui.label(say_age(at_ms, now_ms)).classes("ls-number")
            ui.label(kind).classes("ls-kind")
            ui.label(text)


def _alerts(engine: Engine) -> Draw:
    """The page of alerts; what it returns reads and draws again."""
    page = ui.column().classes("ls-page")

    async def draw() -> None:
        found, status = await asyncio.to_thread(_read_all_alerts, engine)
        page.clear()
        with page:
            for title, alerts in (
                ("Open", [a for a in found if a.closed_ms is None and not a.inhibited_by]),
                ("Covered by a site alert", [a for a in found if a.closed_ms is None and a.inhibited_by]),
                ("Closed", [a for a in found if a.closed_ms is not None]),
            ):
                ui.label(f"{title} ({len(alerts)})").classes("ls-h2")
                for alert in alerts:
                    alert_card(alert, status.at_ms, status.silent)

    return draw


def _read_all_alerts(engine: Engine) -> tuple[list[Alert], FleetStatus]:
    with engine.connect() as tx:
        return read_alerts(tx, closed=True, limit=CLOSED_SHOWN), read_status(tx, _clock_ms())


def _clock_ms() -> int:
    return time.time_ns() // 1_000_000
