"""`lineside-fleet devices`: where each device stands."""

from __future__ import annotations

import time
from pathlib import Path

import click

from device_agent.console import json_option, print_json
from fleet.commands.options import store_option


@click.group("devices")
def devices() -> None:
    """Site, line and product of every device.

    \b
    Example: lineside-fleet devices import devices.csv
    """


@devices.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@store_option
def import_file(file: Path, store: str) -> None:
    """Take places from a CSV file with the columns device,site,line,product. A device that is there already moves.

    \b
    Example: lineside-fleet devices import devices.csv
    """
    from fleet.registry import import_places, read_places
    from fleet.requests import ask
    from fleet.store import open_store

    places = read_places(file)
    with open_store(store, create=True).begin() as tx:
        import_places(tx, places)
        ask(tx, "devices", str(file), time.time_ns() // 1_000_000)
    click.echo(f"{len(places)} devices from {file}", err=True)


@devices.command("list")
@store_option
@json_option
def list_devices(store: str, as_json: bool) -> None:
    """Every device that was imported or ever spoke.

    \b
    Example: lineside-fleet devices list
    """
    from fleet.registry import read_devices
    from fleet.store import open_store
    from fleet.wording import printable

    with open_store(store).connect() as tx:
        found = read_devices(tx)
    if as_json:
        print_json([{"device": d.device, "site": d.site, "line": d.line, "product": d.product} for d in found])
        return
    for device in found:
        line = f"{device.device:32} {device.site:20} {device.line:20} {device.product}"
        click.echo(printable(line.rstrip()))
