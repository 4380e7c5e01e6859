"""`lineside-fleet status` and `watch`: the fleet as a table."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from device_agent.console import json_option, print_json
from fleet.commands.options import store_option

if TYPE_CHECKING:
    from rich.table import Table

    from fleet.status import DeviceStatus, FleetStatus

COLOURS = {"online": "green", "silent": "yellow", "offline": "red", "never": "bright_black"}
SEVERITY_COLOURS = {"critical": "bold red", "page": "red", "warn": "yellow", "info": "cyan", "": ""}


@click.command("status")
@store_option
@json_option
def status(store: str, as_json: bool) -> None:
    """Devices, when they were last heard, their score, and open alerts.

    \b
    Example: lineside-fleet status --store sqlite:///fleet.db
    """
    from rich.console import Console

    from fleet.status import read_status
    from fleet.store import open_store

    with open_store(store).connect() as tx:
        found = read_status(tx, _clock_ms())
    if as_json:
        print_json(found)
        return
    Console(width=None if Console().is_terminal else 140, highlight=False).print(_table(found))


@click.command("watch")
@store_option
@click.option("--every", "every_s", type=click.FloatRange(min=0.2), default=1.0, show_default=True, metavar="SECONDS")
def watch(store: str, every_s: float) -> None:
    """The status, live, until Ctrl-C.

    \b
    Example: lineside-fleet watch --every 2
    """
    from rich.live import Live

    from fleet.status import read_status
    from fleet.store import open_store

    engine = open_store(store)
    with Live(auto_refresh=False, screen=False) as live:
        while True:
            with engine.connect() as tx:
                live.update(_table(read_status(tx, _clock_ms())), refresh=True)
            time.sleep(every_s)


def _table(found: FleetStatus) -> Table:
    from rich.table import Table

    table = Table(
        title=f"{len(found.devices)} devices, {found.open_alerts} open alerts, {found.quarantined} in quarantine"
    )
    for name in ("device", "site", "product", "health", "model", "seen"):
        table.add_column(name)
    for name in ("reports", "frames/min", "missing", "score"):
        table.add_column(name, justify="right")
    table.add_column("alert")
    for device in found.devices:
        table.add_row(*_cells(device, found.at_ms))
    return table


def _cells(device: DeviceStatus, now_ms: int) -> list[str]:
    seen = "-" if device.last_report_ms is None else f"{(now_ms - device.last_report_ms) / 1000:.0f} s ago"
    score = "-" if device.score is None else f"{device.score:.1f} / {device.page_at:.1f}"
    colour = SEVERITY_COLOURS[device.severity]
    return [
        device.device,
        device.site,
        device.product,
        f"[{COLOURS[device.health]}]{device.health}",
        device.model_name or (device.model or "-"),
        seen,
        str(device.reports),
        "-" if device.frames_per_minute is None else f"{device.frames_per_minute:.0f}",
        str(device.missing),
        score,
        f"[{colour}]{device.severity}" if colour else "",
    ]


def _clock_ms() -> int:
    return time.time_ns() // 1_000_000
