"""`lineside-fleet diagnostics`: the textbook tests on one device, as information."""

from __future__ import annotations

import click

from device_agent.console import json_option, print_json
from fleet.commands.options import Finite, store_option


@click.command("diagnostics")
@click.argument("device")
@store_option
@click.option(
    "--hours", type=Finite(0.1, 24 * 31), default=24.0, show_default=True, help="Back from the device's newest report."
)
@json_option
def diagnostics(device: str, store: str, hours: float, as_json: bool) -> None:
    """KL, PSI, JS, KS, chi-square, Page-Hinkley and ADWIN on a device's last day, against its model's baseline.

    Information only: what pages is the detector, see `status`. Counts are independent frames, and each test says how
    often it is wrong on healthy lines.

    \b
    Example: lineside-fleet diagnostics press-1 --json
    """
    from fleet.diagnostics.of_device import diagnose
    from fleet.store import open_store
    from fleet.wording import say_time

    with open_store(store).connect() as tx:
        found = diagnose(tx, device, hours=hours)
    if as_json:
        print_json(found)
        return
    click.echo(
        f"{found.device}, model {found.model}, {say_time(found.from_ms)} to {say_time(found.to_ms)}: {found.reports} "
        f"reports, {found.frames} frames, {found.independent} independent"
    )
    for shown in found.tests:
        value = "-" if shown.statistic is None else f"{shown.statistic:.3g} of {shown.threshold:.3g}"
        click.echo(
            f"{shown.test:13} {value:18} {'over' if shown.over else '':5} {shown.alarms:3} alarms  {shown.means}"
        )
        click.echo(f"{'':13} false alarms on healthy lines: {shown.false_alarms}")
