"""`lineside-fleet replay`: what the detector would have said of the past."""

from __future__ import annotations

from pathlib import Path

import click

from device_agent.console import json_option, print_json
from device_agent.contract.errors import DriftFound
from fleet.commands.options import hold_option, interval_option, pages_option, store_option


@click.command("replay")
@store_option
@pages_option
@interval_option
@hold_option
@click.option("--routes", "path", type=click.Path(path_type=Path), metavar="FILE", help="Say what they would be told.")
@click.option("--fail-on-drift", is_flag=True, help="End with exit code 7 if anything pages.")
@json_option
def replay(
    store: str,
    pages_a_week: float,
    interval_s: float,
    hold_windows: int,
    path: Path | None,
    fail_on_drift: bool,
    as_json: bool,
) -> None:
    """Run the stored reports through a fresh detector and say what would have fired. Changes and sends nothing.

    \b
    Example: lineside-fleet replay --pages-a-week 0.1
    """
    from fleet.detector_fleet import Settings
    from fleet.replay import replay as run_replay
    from fleet.routes.settings import read_routes
    from fleet.store import open_store
    from fleet.wording import printable, say_time

    settings = Settings(pages_a_week=pages_a_week, interval_ms=max(1, round(interval_s * 1000)))
    routes = read_routes(path) if path else []
    with open_store(store).connect() as tx:
        found = run_replay(tx, settings, hold_windows=hold_windows, routes=routes)
    if as_json:
        print_json(found)
    else:
        click.echo(
            f"{found.reports} reports of {found.devices} devices, {found.frames} frames: would have paged {found.pages}"
            f" times and warned {found.warnings} times (page at {found.page_at:.1f}, warn at {found.warn_at:.1f})"
        )
        severities = ", ".join(f"{count} {severity}" for severity, count in found.by_severity.items() if count)
        click.echo(
            f"would have fired {found.fired} times ({severities or 'nothing'}), {found.silenced} of them in silence"
        )
        for scope, count in list(found.by_scope.items())[:20]:
            click.echo(f"    {printable(scope)}: {count}")
        for route in found.routes:
            click.echo(f"    route {route.route}: {route.alerts} alerts, {route.messages} messages")
        for alert in found.alerts:
            covered = f" (covered by {alert.inhibited_by})" if alert.inhibited_by else ""
            click.echo(f"{say_time(alert.opened_ms)} {alert.severity:8} {printable(alert.text)}{covered}")
    if fail_on_drift and found.pages:
        raise DriftFound(f"{found.pages} pages in {found.reports} reports")
