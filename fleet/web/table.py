"""The page of the fleet: how it does, what is open, and its devices, as many as a person can look at."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import msgspec
from nicegui import ui
from sqlalchemy import Engine

from device_agent.contract.alert import SEVERITIES, Alert
from fleet.alerts import read_alerts
from fleet.overview import Asked
from fleet.status import SILENT, DeviceStatus, FleetStatus, read_status
from fleet.web import cells
from fleet.web.cards import alert_card, say_age

PAGE_ROWS = 50
ALERTS_SHOWN = 6
SITES_SHOWN = 12
BUSY_SHARE = 0.1
"""Of the time that pages may spend on reading the store again."""
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
SHOWN = {"": "All devices", "alerted": "With alerts", "offline": "Offline", "silent": "Silent", "never": "Never heard",
         "online": "Online"}  # fmt: skip
ORDERS = {"urgency": "Worst first", "device": "By name", "place": "By place", "seen": "Longest unheard first"}
Found = tuple[FleetStatus, list[Alert]]


class Reader:
    """Reads the fleet for all pages that are open: once for those that ask the same, and the more seldom the longer it
    takes. `clock_s` is monotonic."""

    def __init__(self, engine: Engine, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._engine, self._clock_s = engine, clock_s
        self._last: dict[Asked, tuple[float, asyncio.Task[Found]]] = {}

    async def read(self, asked: Asked, *, fresh_s: float) -> Found:
        """What was read at most `fresh_s` ago, or is read now."""
        for old in [one for one, (until_s, _) in self._last.items() if until_s < self._clock_s()]:
            del self._last[old]
        if asked not in self._last:
            task = asyncio.get_running_loop().create_task(self._read(asked, fresh_s))
            self._last[asked] = (float("inf"), task)
        return await asyncio.shield(self._last[asked][1])

    async def _read(self, asked: Asked, fresh_s: float) -> Found:
        began_s = self._clock_s()
        try:
            return await asyncio.to_thread(_read_fleet, self._engine, asked)
        finally:
            ended_s = self._clock_s()
            until_s = ended_s + max(fresh_s, (ended_s - began_s) / BUSY_SHARE)
            self._last[asked] = (until_s, self._last[asked][1])


def _read_fleet(engine: Engine, asked: Asked) -> Found:
    with engine.connect() as tx:
        status = read_status(tx, time.time_ns() // 1_000_000, asked)
        alerts = [alert for alert in read_alerts(tx) if not alert.inhibited_by]
    return status, sorted(alerts, key=lambda alert: -SEVERITIES.index(alert.severity))


def fleet_table(engine: Engine) -> Callable[[], Any]:
    """Put the page of all devices here; what it returns reads and draws again."""
    return _Fleet(_reader_of(engine)).draw


_READERS: dict[Engine, Reader] = {}


def _reader_of(engine: Engine) -> Reader:
    """One for all pages of a store."""
    return _READERS.setdefault(engine, Reader(engine))


class _Fleet:
    """One open page: what its visitor asked for, and the parts that are drawn again."""

    def __init__(self, reader: Reader) -> None:
        self._reader, self._asked = reader, Asked(order="urgency", limit=PAGE_ROWS)
        self._shown: object = None
        with ui.column().classes("ls-page"):
            self._tiles = ui.row().classes("ls-tiles")
            self._sites = ui.row().classes("ls-sites")
            self._alerts = ui.column().classes("ls-wide")
            with ui.card().classes("ls-card ls-wide"):
                self._controls()
                self._table = _table()
                self._pager()

    async def draw(self) -> None:
        """Read and draw; what was asked for before something else is no longer of interest."""
        asked = self._asked
        status, alerts = await self._reader.read(asked, fresh_s=1.5)
        if asked is not self._asked:
            return
        sites = {alert.id for alert in alerts if alert.scope_kind == "site"}
        self._table.rows = [_row(device, sites, status.at_ms) for device in status.devices]
        self._table.update()
        self._say_where(status)
        self._tiles.clear()
        with self._tiles:
            _show_tiles(status, alerts)
        if status.sites != self._shown:  # one that is drawn anew while somebody clicks it is not clicked
            self._shown = status.sites
            self._sites.clear()
            with self._sites:
                self._show_sites(status)
        self._alerts.clear()
        with self._alerts:
            for alert in alerts[:ALERTS_SHOWN]:
                alert_card(alert, status.at_ms, status.silent)
            if len(alerts) > ALERTS_SHOWN:
                ui.link(f"and {len(alerts) - ALERTS_SHOWN} more", "/alerts").classes("ls-nav")

    def _controls(self) -> None:
        with ui.row().classes("ls-controls") as self._bar:
            search = ui.input(placeholder="Find a device").props("dense outlined clearable debounce=300")
            search.on_value_change(lambda event: self._ask(search=event.value or ""))
            shown = ui.select(SHOWN, value="").props("dense outlined options-dense")
            shown.on_value_change(lambda event: self._ask_health(event.value))
            order = ui.select(ORDERS, value="urgency").props("dense outlined options-dense")
            order.on_value_change(lambda event: self._ask(order=event.value))
            self._site = ui.button(on_click=lambda: self._ask(site="")).props("flat dense no-caps icon-right=close")

    def _pager(self) -> None:
        with ui.row().classes("ls-pager") as self._paging:
            self._back = ui.button(icon="chevron_left", on_click=lambda: self._move(-PAGE_ROWS)).props("flat dense")
            self._where = ui.label().classes("ls-note")
            self._on = ui.button(icon="chevron_right", on_click=lambda: self._move(PAGE_ROWS)).props("flat dense")

    def _say_where(self, status: FleetStatus) -> None:
        first, last = self._asked.offset, self._asked.offset + len(status.devices)
        self._where.text = f"{first + bool(last):,} to {last:,} of {status.matching:,}" if last else "No such device"
        self._back.set_enabled(first > 0)
        self._on.set_enabled(last < status.matching)
        self._site.text = self._asked.site
        self._site.set_visibility(bool(self._asked.site))
        few = status.all_devices <= PAGE_ROWS
        self._bar.set_visibility(not few)
        self._paging.set_visibility(not few)

    def _show_sites(self, status: FleetStatus) -> None:
        if len(status.sites) < 2 or status.all_devices <= PAGE_ROWS:
            return
        for site in status.sites[:SITES_SHOWN]:
            quiet = sum(site.health.get(health, 0) for health in SILENT)
            tone = "page" if site.alerted else "warn" if quiet else "good"
            with ui.element("button").classes("ls-site").on("click", lambda name=site.site: self._ask(site=name)):
                ui.html(f'<span class="ls-dot ls-dot-{tone}"></span>', sanitize=False)
                ui.label(site.site).classes("ls-name")
                said = [f"{site.devices:,}"]
                said += [f"{site.alerted} with alerts"] if site.alerted else []
                said += [f"{quiet} silent"] if quiet else []
                ui.label(" · ".join(said)).classes("ls-note")
        if len(status.sites) > SITES_SHOWN:
            ui.label(f"and {len(status.sites) - SITES_SHOWN:,} sites more").classes("ls-note")

    async def _ask_health(self, value: str) -> None:
        await self._ask(alerted=value == "alerted", health=None if value in ("", "alerted") else value)

    async def _ask(self, **changed: Any) -> None:
        self._asked = msgspec.structs.replace(self._asked, offset=0, **changed)
        await self.draw()

    async def _move(self, rows: int) -> None:
        await self._ask_at(max(0, self._asked.offset + rows))

    async def _ask_at(self, offset: int) -> None:
        self._asked = msgspec.structs.replace(self._asked, offset=offset)
        await self.draw()


def _table() -> ui.table:
    columns = [{"name": n, "label": label, "field": n, "align": a, "sortable": True} for n, label, a in COLUMNS]
    table = ui.table(columns=columns, rows=[], row_key="device", pagination=0).classes("ls-table")
    table.props("flat hide-pagination")
    for name, cell in (
        ("device", cells.DEVICE),
        ("health", cells.HEALTH),
        ("score", cells.SCORE),
        ("alert", cells.BADGE),
        *((name, cells.NAME) for name in ("site", "line", "product", "model")),
    ):
        table.add_slot(f"body-cell-{name}", cell)
    return table


def _show_tiles(status: FleetStatus, alerts: list[Alert]) -> None:
    online, paging = status.health["online"], sum(alert.severity in ("page", "critical") for alert in alerts)
    all_well = online == status.all_devices and not status.trouble
    _tile("Devices online", f"{online:,} / {status.all_devices:,}", "good" if all_well else "warn")
    _tile("Pages open", str(paging), "page" if paging else "good")
    _tile("Warnings open", str(len(alerts) - paging), "warn" if len(alerts) > paging else "good")
    _tile("Frames a minute", f"{status.frames_per_minute:,.0f}", "")
    _tile("Reports missing", f"{status.missing:,}", "warn" if status.missing else "")
    _tile("In quarantine", f"{status.quarantined:,}", "warn" if status.quarantined else "")


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
        "score": None if device.score is None else round(device.score, 1),
        "width": round(100 * min(score / full, 1)),
        "warn": round(100 * warn_at / full),
        "page": round(100 * page_at / full),
        "page_at": round(page_at, 1),
        "tone": "page" if score >= page_at else "warn" if score >= warn_at else "good",
        "alert": device.severity,
        "alert_text": f"site {device.severity}" if sites.issuperset(device.alerts) else device.severity,
    }
