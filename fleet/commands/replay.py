"""`lineside-fleet replay`: what the detector would have said of the past."""

from __future__ import annotations

import click

from device_agent.console import json_option, print_json
from device_agent.contract.errors import DriftFound
from fleet.commands.options import hold_option, interval_option, pages_option, store_option


@click.command("replay")
@store_option
@pages_option
@interval_option
@hold_option
@click.option("--fail-on-drift", is_flag=True, help="End with exit code 7 if anything pages.")
@json_option
def replay(
    store: str, pages_a_week: float, interval_s: float, hold_windows: int, fail_on_drift: bool, as_json: bool
) -> None:
    """Run the stored reports through a fresh detector and say what would have fired. Changes nothing.

    \b
    Example: lineside-fleet replay --pages-a-week 0.1
    """
    from fleet.detector_fleet import Settings
    from fleet.replay import replay as run_replay
    from fleet.store import open_store
    from fleet.wording import say_time

    settings = Settings(pages_a_week=pages_a_week, interval_ms=max(1, round(interval_s * 1000)))
    with open_store(store).connect() as tx:
        found = run_replay(tx, settings, hold_windows=hold_windows)
    if as_json:
        print_json(found)
    else:
        click.echo(
            f"{found.reports} reports of {found.devices} devices, {found.frames} frames: would have paged {found.pages}"
            f" times and warned {found.warnings} times (page at {found.page_at:.1f}, warn at {found.warn_at:.1f})"
        )
        for alert in found.alerts:
            covered = f" (covered by {alert.inhibited_by})" if alert.inhibited_by else ""
            click.echo(f"{say_time(alert.opened_ms)} {alert.severity:8} {alert.text}{covered}")
    if fail_on_drift and found.pages:
        raise DriftFound(f"{found.pages} pages in {found.reports} reports")
