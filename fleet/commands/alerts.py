"""`lineside-fleet alerts` and `changeover`: what was found, and what people say to it."""

from __future__ import annotations

import time

import click

from device_agent.console import json_option, print_json
from device_agent.contract.errors import NotFound
from fleet.commands.options import store_option


@click.group("alerts", invoke_without_command=True)
@click.option("--all", "everything", is_flag=True, help="Closed ones too.")
@store_option
@json_option
@click.pass_context
def alerts(ctx: click.Context, everything: bool, store: str, as_json: bool) -> None:
    """Open alerts, newest first.

    \b
    Example: lineside-fleet alerts --all --json
    """
    if ctx.invoked_subcommand is not None:
        return
    from fleet.alerts import read_alerts
    from fleet.store import open_store
    from fleet.wording import printable, say_time

    with open_store(store).connect() as tx:
        found = read_alerts(tx, closed=everything)
    if as_json:
        print_json(found)
        return
    for alert in found:
        state = f"closed: {alert.closed_reason}" if alert.closed_ms else "open"
        covered = f", covered by {alert.inhibited_by}" if alert.inhibited_by else ""
        click.echo(f"{alert.id} {alert.severity:8} {say_time(alert.opened_ms)} {state}{covered}")
        click.echo(f"    {printable(alert.text)}")


@alerts.command("ack")
@click.argument("alert_id", metavar="ID")
@store_option
def acknowledge(alert_id: str, store: str) -> None:
    """Close an alert: it was seen, and its devices start from nothing.

    \b
    Example: lineside-fleet alerts ack 3f9a0c1d2e4b
    """
    from fleet.alerts import read_alerts
    from fleet.requests import ask
    from fleet.store import open_store

    with open_store(store).begin() as tx:
        known = [alert.id for alert in read_alerts(tx)]
        if alert_id not in known:
            raise NotFound(f"no open alert {alert_id!r}; open are: {', '.join(known) or 'none'}")
        ask(tx, "acknowledge", alert_id, time.time_ns() // 1_000_000)
    click.echo(f"{alert_id}: asked; the monitor closes it within a second, or when it starts", err=True)


@click.command("changeover")
@click.argument("target", metavar="SITE|DEVICE")
@store_option
def changeover(target: str, store: str) -> None:
    """Say that a site or a device now runs another product: its alerts close, and its detectors start from nothing.

    \b
    Example: lineside-fleet changeover line-2
    """
    from fleet.registry import read_devices
    from fleet.requests import ask
    from fleet.store import open_store

    with open_store(store).begin() as tx:
        names = {name for device in read_devices(tx) for name in (device.site, device.device)}
        if target not in names:
            raise NotFound(f"no site or device {target!r}; known are: {', '.join(sorted(names)[:20]) or 'none'}")
        ask(tx, "changeover", target, time.time_ns() // 1_000_000)
    click.echo(f"{target}: asked; the monitor does it within a second, or when it starts", err=True)
