"""`lineside-fleet routes`: where alerts go."""

from __future__ import annotations

import time
from pathlib import Path

import click

from device_agent.console import json_option, print_json
from device_agent.contract.errors import NotFound, Unreachable
from fleet.commands.options import store_option

_file = click.argument("path", metavar="FILE", type=click.Path(path_type=Path))


@click.group("routes")
def routes() -> None:
    """Routes on which people and programs are told of alerts, from a TOML file.

    \b
    [[route]]
    name = "maintenance"
    kind = "apprise"
    url_env = "MAINTENANCE_URL"
    severity = "page"
    match = { site = ["hall-*"] }

    \b
    Example: lineside-fleet routes check routes.toml
    """


@routes.command("check")
@_file
@json_option
def check(path: Path, as_json: bool) -> None:
    """Read a file of routes with its secrets and say what it would do; nothing is sent.

    \b
    Example: lineside-fleet routes check routes.toml
    """
    from fleet.routes.settings import make_route, read_routes

    found = read_routes(path)
    for settings in found:
        make_route(settings, path.parent).close()
    if as_json:
        print_json(found)
        return
    for settings in found:
        after = f", when nobody took note for {settings.after_min:g} min" if settings.after_min else ""
        again = f", again every {settings.repeat_min:g} min" if settings.repeat_min else ""
        most = f"at most {settings.most_a_minute} messages a minute, over {settings.digest_over} at once as a digest"
        click.echo(f"{settings.name} {settings.kind}: {settings.matcher}{after}{again}; {most}")


@routes.command("test")
@_file
@click.option("--route", "only", multiple=True, metavar="NAME", help="Only this one; may be repeated.")
def test(path: Path, only: tuple[str, ...]) -> None:
    """Send a test message on every route. Exit code 5 if one does not take it.

    \b
    Example: lineside-fleet routes test routes.toml --route maintenance
    """
    from fleet.routes import NotTaken
    from fleet.routes.message import write_test
    from fleet.routes.settings import make_route, read_routes

    found = read_routes(path)
    if absent := set(only) - {settings.name for settings in found}:
        raise NotFound(f"{path}: no route {', '.join(sorted(absent))}")
    chosen = [settings for settings in found if not only or settings.name in only]
    failed = []
    for settings, route in [(settings, make_route(settings, path.parent)) for settings in chosen]:
        try:
            route.take(write_test(settings.name, time.time_ns() // 1_000_000))
            click.echo(f"{settings.name}: taken")
        except NotTaken as error:
            failed.append(settings.name)
            click.echo(f"{settings.name}: not taken: {error}")
        finally:
            route.close()
    if failed:
        raise Unreachable(f"{path}: not taken by {', '.join(failed)}")


@routes.command("run")
@_file
@store_option
def run(path: Path, store: str) -> None:
    """Deliver alerts of a store until it is ended, beside the monitor. Of several on one store, one works.

    \b
    Example: lineside-fleet routes run routes.toml --store sqlite:///fleet.db
    """
    import signal
    import threading

    from fleet.routes.run import deliver
    from fleet.store import open_store

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    deliver(open_store(store), path, stop, say=lambda line: click.echo(f"lineside-fleet: {line}", err=True))


@routes.command("status")
@store_option
@json_option
def status(store: str, as_json: bool) -> None:
    """How each route does: messages taken, alerts that wait or are held back, and what is wrong.

    \b
    Example: lineside-fleet routes status --json
    """
    from fleet.routes.state import read_route_status
    from fleet.store import open_store
    from fleet.wording import printable, say_time

    with open_store(store).connect() as tx:
        found = read_route_status(tx)
    if as_json:
        print_json(found)
        return
    for route in found:
        last = f", last {say_time(route.sent_ms)}" if route.sent_ms else ""
        counts = f"{route.waiting} wait, {route.held} held back, {route.given_up} given up"
        click.echo(f"{route.route} {route.kind}: {route.sent} messages taken{last}; {counts}")
        if route.failing_ms is not None:
            click.echo(
                f"    fails since {say_time(route.failing_ms)} ({route.failures} times): {printable(route.error)}"
            )
