"""`lineside data`: everything about images before there is a model."""

from __future__ import annotations

import click

from device_agent.console import LazyGroup

COMMANDS = {
    "synth": "toolkit.commands.data.synth:synth",
    "check": "toolkit.commands.data.check:check",
}


@click.group("data", cls=LazyGroup, lazy=COMMANDS)
def data() -> None:
    """Draw a data set, or look one over.

    \b
    Example: lineside data synth data/steel && lineside data check data/steel
    """
