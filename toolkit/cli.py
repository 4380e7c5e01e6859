"""The `lineside` program: the workstation."""

from __future__ import annotations

import click

from device_agent.console import LazyGroup, run

COMMANDS = {
    "init": "toolkit.commands.init:init",
    "demo": "toolkit.commands.demo:demo",
    "data": "toolkit.commands.data.group:data",
    "train": "toolkit.commands.train:train",
    "distill": "toolkit.commands.distill:distill",
    "prune": "toolkit.commands.prune:prune",
    "convert": "toolkit.commands.convert:convert",
    "verify": "toolkit.commands.verify:verify",
    "explain": "toolkit.commands.explain:explain",
    "evaluate": "toolkit.commands.evaluate:evaluate",
    "operating-point": "toolkit.commands.operating_point:operating_point",
    "robustness": "toolkit.commands.robustness:robustness",
    "compare": "toolkit.commands.compare:compare",
    "diff": "toolkit.commands.diff:diff",
    "bench": "toolkit.commands.bench:bench",
    "profiles": "toolkit.commands.profiles:profiles",
    "ablation": "toolkit.commands.ablation:ablation",
    "report": "toolkit.commands.report:report",
    "export": "toolkit.commands.export:export",
    "pack": "toolkit.commands.pack:pack",
    "inspect": "toolkit.commands.inspect:inspect",
}


@click.group("lineside", cls=LazyGroup, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="lineside")
def cli() -> None:
    """From a folder of images to a monitored fleet.

    \b
    lineside data synth data/steel
    lineside train data/steel --out runs/steel
    lineside convert runs/steel --for raspberry-pi-4
    lineside pack runs/steel --for raspberry-pi-4
    """


def main() -> None:
    """Entry point of the console script."""
    run(cli)
