"""`lineside-fleet status` and `watch`: the fleet as a table."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from device_agent.console import json_option, print_json
from fleet.commands.options import store_option

if TYPE_CHECKING:
    from rich.console import Group
    from rich.text import Text

    from fleet.registry import Health
    from fleet.status import DeviceStatus, FleetStatus

TABLE_ROWS, WATCH_ROWS = 200, 40
COLOURS = {"online": "green", "silent": "yellow", "offline": "red", "never": "bright_black"}
SEVERITY_COLOURS = {"critical": "bold red", "page": "red", "warn": "yellow", "info": "cyan", "": ""}


@click.command("status")
@click.option("--search", default="", metavar="TEXT", help="Devices whose name has this in it.")
@click.option("--site", default="", metavar="NAME", help="Of this site only.")
@click.option("--health", type=click.Choice(["online", "silent", "offline", "never"]), help="In this state only.")
@click.option("--alerted", is_flag=True, help="Only those that an open alert names.")
@click.option("--limit", type=click.IntRange(min=0), help="At most so many, the worst; 200 in a table, all as JSON.")
@store_option
@json_option
def status(
    search: str, site: str, health: Health | None, alerted: bool, limit: int | None, store: str, as_json: bool
) -> None:
    """Devices, when they were last heard, their score, and open alerts.

    \b
    Example: lineside-fleet status --store sqlite:///fleet.db --alerted
    """
    from rich.console import Console

    from fleet.overview import Asked
    from fleet.status import read_status
    from fleet.store import open_store

    everything = as_json and limit is None
    asked = Asked(
        search=search,
        site=site,
        health=health,
        alerted=alerted,
        order="place" if everything else "urgency",
        limit=None if everything else TABLE_ROWS if limit is None else limit,
    )
    with open_store(store).connect() as tx:
        found = read_status(tx, _clock_ms(), asked)
    if as_json:
        print_json(found)
        return
    Console(width=None if Console().is_terminal else 140, highlight=False).print(_picture(found))


@click.command("watch")
@store_option
@click.option("--every", "every_s", type=click.FloatRange(min=0.2), default=1.0, show_default=True, metavar="SECONDS")
def watch(store: str, every_s: float) -> None:
    """The status, live, until Ctrl-C.

    \b
    Example: lineside-fleet watch --every 2
    """
    from rich.live import Live

    from fleet.overview import Asked
    from fleet.status import read_status
    from fleet.store import open_store

    engine, asked = open_store(store), Asked(order="urgency", limit=WATCH_ROWS)
    with Live(auto_refresh=False, screen=False) as live:
        while True:
            with engine.connect() as tx:
                live.update(_picture(read_status(tx, _clock_ms(), asked)), refresh=True)
            time.sleep(every_s)


def _picture(found: FleetStatus) -> Group:
    """What keeps the monitor from being up to date, if anything, and the table of devices."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    left = found.matching - len(found.devices)
    table = Table(
        title=f"{found.all_devices:,} devices, {found.open_alerts} open alerts, {found.quarantined} in quarantine",
        caption=f"{left:,} more, less urgent ones; see --limit" if left else None,
    )
    for name in ("device", "site", "product", "health", "model", "seen"):
        table.add_column(name)
    for name in ("reports", "frames/min", "missing", "gaps", "score"):
        table.add_column(name, justify="right")
    table.add_column("alert", no_wrap=True)
    for device in found.devices:
        table.add_row(*_cells(device, found.at_ms))
    return Group(*([Text(found.trouble, "bold red")] if found.trouble else []), table)


def _cells(device: DeviceStatus, now_ms: int) -> list[Text]:
    """One row. Plain texts, not markup: names are words of others."""
    from rich.text import Text

    from fleet.wording import printable

    seen = "-" if device.last_report_ms is None else f"{(now_ms - device.last_report_ms) / 1000:.0f} s ago"
    score = "-" if device.score is None else f"{device.score:.1f} / {device.page_at:.1f}"
    silent = f", {device.health}" if device.severity and device.silent_since_ms is not None else ""
    cells = [
        (device.device, ""),
        (device.site, ""),
        (device.product, ""),
        (device.health, COLOURS[device.health]),
        (device.model_name or (device.model or "-"), ""),
        (seen, ""),
        (str(device.reports), ""),
        ("-" if device.frames_per_minute is None else f"{device.frames_per_minute:.0f}", ""),
        (str(device.missing), ""),
        (str(device.gaps), ""),
        (score, ""),
        (f"{device.severity}{silent}", SEVERITY_COLOURS[device.severity]),
    ]
    return [Text(printable(text), style) for text, style in cells]


def _clock_ms() -> int:
    return time.time_ns() // 1_000_000
