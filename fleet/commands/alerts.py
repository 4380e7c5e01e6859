"""`lineside-fleet alerts` and `changeover`: what was found, and what people say to it."""

from __future__ import annotations

import time

import click

from device_agent.console import json_option, print_json
from device_agent.contract.errors import NotFound
from fleet.commands.options import Finite, store_option
from fleet.commands.times import Moment, by_option

note_option = click.option("--note", default="", help="In your own words.")


@click.group("alerts", invoke_without_command=True)
@click.option("--all", "everything", is_flag=True, help="Closed ones too.")
@store_option
@json_option
@click.pass_context
def alerts(ctx: click.Context, everything: bool, store: str, as_json: bool) -> None:
    """Open alerts, newest first, with who took note, what silences them and which routes were told.

    \b
    Example: lineside-fleet alerts --all --json
    """
    if ctx.invoked_subcommand is not None:
        return
    from fleet.alert_view import read_alert_views, say_state
    from fleet.routes.state import read_route_status, say_route_troubles
    from fleet.store import open_store
    from fleet.wording import printable, say_time

    with open_store(store).connect() as tx:
        found = read_alert_views(tx, _clock_ms(), closed=everything)
        troubles = say_route_troubles(read_route_status(tx))
    for line in troubles:
        click.echo(printable(line), err=True)
    if as_json:
        print_json(found)
        return
    for alert in found:
        click.echo(f"{alert.id} {alert.severity:8} {say_time(alert.opened_ms)} {printable(say_state(alert))}")
        click.echo(f"    {printable(alert.text)}")


@alerts.command("ack")
@click.argument("alert_id", metavar="ID")
@click.option("--keep-open", is_flag=True, help="Only take note: no escalation, no reminders, and it stays open.")
@note_option
@by_option
@store_option
def acknowledge(alert_id: str, keep_open: bool, note: str, who: str, store: str) -> None:
    """Close an alert: it was seen, and its devices start from nothing. With --keep-open it stays open, and nobody else
    is called.

    \b
    Example: lineside-fleet alerts ack 3f9a0c1d2e4b --keep-open --note "on my way"
    """
    from fleet.acknowledgements import acknowledge as take_note
    from fleet.alerts import read_alerts
    from fleet.requests import ask
    from fleet.store import open_store

    with open_store(store).begin() as tx:
        known = [alert.id for alert in read_alerts(tx)]
        if alert_id not in known:
            raise NotFound(f"no open alert {alert_id!r}; open are: {', '.join(known[:20]) or 'none'}")
        take_note(tx, alert_id, who=who, note=note, now_ms=_clock_ms())
        if not keep_open:
            ask(tx, "acknowledge", alert_id, _clock_ms())
    if keep_open:
        click.echo(f"{alert_id}: {who} takes note; it stays open, nobody else is called", err=True)
    else:
        click.echo(f"{alert_id}: asked; the monitor closes it within a second, or when it starts", err=True)


@alerts.command("judge")
@click.argument("alert_id", metavar="ID")
@click.option("--true/--false", "real", required=True, help="Whether there was something to be found.")
@note_option
@by_option
@store_option
def judge(alert_id: str, real: bool, note: str, who: str, store: str) -> None:
    """Say whether an alert was true, open or closed. The ledger counts with it.

    \b
    Example: lineside-fleet alerts judge 3f9a0c1d2e4b --false --note "lens and light were fine"
    """
    from fleet.acknowledgements import judge as keep_judgement
    from fleet.store import open_store

    with open_store(store).begin() as tx:
        keep_judgement(tx, alert_id, real=real, who=who, note=note, now_ms=_clock_ms())
    click.echo(f"{alert_id}: judged {str(real).lower()} by {who}", err=True)


@alerts.command("ledger")
@click.option("--pages-a-week", "promised", type=Finite(1e-6, 1e6), metavar="B", help="Promised; default: as served.")
@click.option("--since", "since_ms", type=Moment(), metavar="TIME", help="Default: since the first device was seen.")
@store_option
@json_option
def ledger(promised: float | None, since_ms: int | None, store: str, as_json: bool) -> None:
    """Pages against the dial: how many a week, how many were judged false, and whether the promise holds.

    \b
    Example: lineside-fleet alerts ledger --pages-a-week 1 --json
    """
    from fleet.page_ledger import LEAST_WEEKS, keep_page_ledger
    from fleet.store import open_store
    from fleet.wording import say_time

    with open_store(store).connect() as tx:
        found = keep_page_ledger(tx, _clock_ms(), promised=promised, since_ms=since_ms)
    if as_json:
        print_json(found)
        return
    click.echo(f"{found.pages} pages since {say_time(found.from_ms)}: {found.real} true, {found.false} false, "
               f"{found.unjudged} not judged")  # fmt: skip
    click.echo(found.verdict)
    if found.weeks >= LEAST_WEEKS:
        click.echo(f"at most {found.high_if_unjudged_false:.2f} a week if what nobody judged was false (95 %)")
    for week in found.by_week:
        if week.pages:
            click.echo(f"week of {say_time(week.from_ms)}: {week.pages} pages, {week.false} false, {week.real} true")


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
        ask(tx, "changeover", target, _clock_ms())
    click.echo(f"{target}: asked; the monitor does it within a second, or when it starts", err=True)


def _clock_ms() -> int:
    return time.time_ns() // 1_000_000
