"""`lineside data estimate`: the accuracy on a whole pool from the few pictures that were labelled."""

from __future__ import annotations

from pathlib import Path

import click

from device_agent.console import json_option, print_json


@click.command("estimate")
@click.argument("path", metavar="LIST", type=click.Path(path_type=Path))
@json_option
def estimate(path: Path, as_json: bool) -> None:
    """Tell how often the model is right on the pool from which LIST was selected, its column class now filled in.

    Only the pictures that `lineside data select` drew by chance count, each with its weight.

    \b
    Example: lineside data estimate next.csv
    """
    from toolkit.evaluation.weighted import estimate_list

    found = estimate_list(path)
    if as_json:
        print_json(found)
        return
    low, high = found.interval
    click.echo(f"accuracy {found.accuracy:.4f} ({low:.4f} to {high:.4f}, 95 %) on the pool of {found.pool} pictures")
    click.echo(f"  {found.images} labels, as exact as {found.as_good_as} of a simple random sample")
    if found.not_drawn:
        click.echo(f"  {found.not_drawn} pictures that were chosen for their own sake are left out")
