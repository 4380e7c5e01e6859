"""`lineside-fleet serve`: the monitor itself."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleet.commands.options import hold_option, interval_option, pages_option, store_option

if TYPE_CHECKING:
    from fleet.alerts import Change

_FILE = click.Path(path_type=Path)


@click.command("serve")
@click.option(
    "--broker", required=True, metavar="URL", envvar="LINESIDE_BROKER", help="mqtt://[user:password@]host[:port]"
)
@click.option("--ca", type=_FILE, envvar="LINESIDE_CA", help="Whom to trust with mqtts://, PEM.")
@click.option("--cert", type=_FILE, envvar="LINESIDE_CERT", help="Certificate of the monitor, PEM, for mqtts://.")
@click.option("--key", type=_FILE, envvar="LINESIDE_KEY", help="Its key, PEM, for this user's eyes only.")
@store_option
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="Of the page; 0: none.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address that the page listens on.")
@click.option(
    "--allow-host",
    "names",
    multiple=True,
    metavar="NAME",
    help="Name, besides this machine's own, under which browsers may ask for the page; may be repeated.",
)
@pages_option
@interval_option
@hold_option
@click.option("--client-id", help="Name of this monitor on the broker.  [default: lineside-fleet, and the worker's]")
@click.option(
    "--shards", metavar="LIST", help="Keep to these of the 64, such as 0-31; by default workers share them evenly."
)
@click.option(
    "--report-days",
    type=click.IntRange(4, 3650),
    default=7,
    show_default=True,
    help="Days that reports are kept.",
)
@click.option(
    "--store-mib", type=click.IntRange(64), metavar="MIB", help="Most that the store may take before older reports go."
)
@click.option(
    "--test",
    "tests",
    multiple=True,
    metavar="NAME",
    help="Also show what a textbook test says (kl, psi, js, ks, chi2, page-hinkley, adwin): its alarms are events of "
    "the device, nobody is paged; may be repeated.",
)
@click.option("--routes", type=_FILE, metavar="FILE", help="Tell of alerts on these routes, TOML.")
@click.option("--metrics", metavar="HOST:PORT", help="Answer /metrics, /healthz and /readyz there; default: nowhere.")
@click.option(
    "--log", type=click.Choice(["plain", "json"]), default="plain", show_default=True, help="Lines on stderr."
)
@click.option("--json", "as_json", is_flag=True, help="Print alerts as JSON lines on stdout.")
def serve(
    broker: str,
    ca: Path | None,
    cert: Path | None,
    key: Path | None,
    store: str,
    port: int,
    host: str,
    names: tuple[str, ...],
    pages_a_week: float,
    interval_s: float,
    hold_windows: int,
    client_id: str | None,
    shards: str | None,
    report_days: int,
    store_mib: int | None,
    tests: tuple[str, ...],
    routes: Path | None,
    metrics: str | None,
    log: str,
    as_json: bool,
) -> None:
    """Take reports from the broker into the store, judge them, and raise alerts, until it is ended.

    Alerts go to stdout, one line each, and to the broker (retained while open); everything else to stderr. A report is
    acknowledged once it is stored. Ctrl-C or SIGTERM ends it in order; a kill loses nothing.

    Several of them may serve one PostgreSQL store, on any machines: each takes its share of the 64 shards of devices,
    and those of one that dies within half a minute.

    \b
    Example: lineside-fleet serve --broker mqtt://localhost:1883 --store sqlite:///fleet.db
    """
    from device_agent.contract.broker import parse_broker
    from device_agent.contract.credentials import Credentials
    from fleet.detector_fleet import Settings
    from fleet.launch import Page, run_monitor
    from fleet.leases import parse_shards
    from fleet.operations.listener import parse_listen
    from fleet.retention import Limits

    settings = Settings(pages_a_week=pages_a_week, interval_ms=max(1, round(interval_s * 1000)))
    run_monitor(
        broker=parse_broker(broker, Credentials(ca, cert, key)),
        store=store,
        page=Page(host, port, names) if port else None,
        settings=settings,
        hold_windows=hold_windows,
        client_id=client_id,
        announce=_announce_json if as_json else _announce,
        say=_say_json if log == "json" else lambda line: click.echo(f"lineside-fleet: {line}", err=True),
        metrics=parse_listen(metrics) if metrics else None,
        routes=routes,
        limits=Limits(report_days=report_days, store_mib=store_mib),
        shards=parse_shards(shards) if shards else (),
        tests=tests,
    )


def _say_json(line: str) -> None:
    import time

    import msgspec

    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    click.echo(msgspec.json.encode({"time": stamp, "program": "lineside-fleet", "text": line}).decode(), err=True)


def _announce(change: Change) -> None:
    from fleet.wording import printable, say_time

    alert = change.alert
    at_ms = alert.closed_ms or alert.updated_ms
    told = {"closed": f"closed: {alert.closed_reason}", "inhibited": f"covered by {alert.inhibited_by}"}
    text = f"{told[change.what]} ({alert.scope})" if change.what in told else alert.text
    _print(f"{say_time(at_ms)} {alert.severity.upper():8} {alert.id} {printable(text)}")


def _announce_json(change: Change) -> None:
    import msgspec

    _print(msgspec.json.encode({"change": change.what, "alert": change.alert}).decode())


def _print(line: str) -> None:
    """One line on stdout; a reader that went away does not stop the monitor."""
    try:
        click.echo(line)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
