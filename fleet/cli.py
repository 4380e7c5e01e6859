"""The `lineside-fleet` program: the monitor."""

from __future__ import annotations

import click

from device_agent.console import LazyGroup, run

COMMANDS = {
    "serve": "fleet.commands.serve:serve",
    "devices": "fleet.commands.devices:devices",
    "models": "fleet.commands.models:models",
    "migrate": "fleet.commands.migrate:migrate",
    "backup": "fleet.commands.backup:backup",
    "restore": "fleet.commands.backup:restore",
    "status": "fleet.commands.status:status",
    "watch": "fleet.commands.status:watch",
    "alerts": "fleet.commands.alerts:alerts",
    "changeover": "fleet.commands.alerts:changeover",
    "silence": "fleet.commands.silences:silence",
    "maintenance": "fleet.commands.silences:maintenance",
    "routes": "fleet.commands.routes:routes",
    "replay": "fleet.commands.replay:replay",
    "quarantine": "fleet.commands.quarantine:quarantine",
    "keys": "fleet.commands.keys:keys",
    "configure": "fleet.commands.control:configure",
    "command": "fleet.commands.control:command",
    "samples": "fleet.commands.samples:samples",
    "accuracy": "fleet.commands.accuracy:accuracy",
    "labels": "fleet.commands.labels:labels",
    "golden": "fleet.commands.golden:golden",
    "diagnostics": "fleet.commands.diagnostics:diagnostics",
    "trigger": "fleet.commands.trigger:trigger",
    "simulate": "fleet.commands.simulate:simulate",
}


@click.group("lineside-fleet", cls=LazyGroup, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="lineside")
def cli() -> None:
    """Watch a fleet of devices: store their reports, find drift, raise alerts.

    \b
    lineside-fleet devices import devices.csv
    lineside-fleet models import line.lineside
    lineside-fleet serve --broker mqtt://localhost:1883
    lineside-fleet status
    """


def main() -> None:
    """Entry point of the console script."""
    run(cli)


if __name__ == "__main__":
    main()
