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
from fleet.overview import Asked
from fleet.registry import Health
from fleet.status import SILENT, FleetStatus, read_status
from fleet.web import charts
from fleet.web.accuracy import add_accuracy
from fleet.web.cards import alert_card, say_age
from fleet.web.table import fleet_table

EVERY_S = 2.0
STYLE = Path(__file__).with_name("static") / "page.css"
CLOSED_SHOWN = 50
Draw = Callable[[], Any]


def add_pages(engine: Engine) -> None:
    """Register the pages with NiceGUI."""

    @ui.page("/")
    async def fleet_page() -> None:
        await _show("Fleet", engine, fleet_table)

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
        return read_alerts(tx, closed=True, limit=CLOSED_SHOWN), read_status(tx, _clock_ms(), Asked(limit=0))


def _clock_ms() -> int:
    return time.time_ns() // 1_000_000
