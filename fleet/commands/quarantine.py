"""`lineside-fleet quarantine`: messages that could not be read."""

from __future__ import annotations

import click

from device_agent.console import json_option, print_json
from fleet.commands.options import store_option


@click.command("quarantine")
@store_option
@json_option
def quarantine(store: str, as_json: bool) -> None:
    """Messages that could not be read: device, topic, size, why, how often, and when last.

    Equal ones stand once. A size of 0: not kept here, and not acknowledged, so that a report waits on its device.

    \b
    Example: lineside-fleet quarantine --json
    """
    from fleet.quarantine import read_quarantine
    from fleet.store import open_store
    from fleet.wording import printable, say_time

    with open_store(store).connect() as tx:
        found = read_quarantine(tx)
    if as_json:
        print_json([kept._asdict() for kept in found])
        return
    for kept in found:
        line = f"{say_time(kept.received_ms)} {kept.times:6} x {kept.size:6} B {kept.topic} {kept.reason}"
        click.echo(printable(line))
