"""`lineside data`: everything about images before there is a model."""

from __future__ import annotations

import click

from device_agent.console import LazyGroup

COMMANDS = {
    "synth": "toolkit.commands.data.synth:synth",
    "corrupt": "toolkit.commands.data.corrupt:corrupt",
    "select": "toolkit.commands.data.select:select",
    "estimate": "toolkit.commands.data.estimate:estimate",
    "anonymize": "toolkit.commands.data.anonymize:anonymize",
    "check": "toolkit.commands.data.check:check",
    "split": "toolkit.commands.data.split:split",
    "import": "toolkit.commands.data.import_:import_",
    "merge-labels": "toolkit.commands.data.merge_labels:merge_labels",
    "purge": "toolkit.commands.data.purge:purge",
}


@click.group("data", cls=LazyGroup, lazy=COMMANDS)
def data() -> None:
    """Draw or import images, look them over, split, label, hide and remove them.

    \b
    Example: lineside data synth data/steel && lineside data check data/steel
    """
