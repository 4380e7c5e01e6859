"""`lineside data check`: look a data set over."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from device_agent.console import json_option, print_json
from device_agent.contract.errors import BadInput

if TYPE_CHECKING:
    from toolkit.data.survey import Survey


@click.command("check")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--seed",
    type=click.IntRange(0, 2**31 - 1),
    default=0,
    show_default=True,
    help="Seed of the split, as --split-seed of lineside train.",
)
@json_option
def check(folder: Path, seed: int, as_json: bool) -> None:
    """Read every image of a data set; show its classes, groups and split, what was passed over, and what is wrong.

    Ends with exit code 1 when an image cannot be read, equal images are of two classes, or the images cannot be split.

    \b
    Example: lineside data check data/steel
    """
    from toolkit.data.survey import survey
    from toolkit.terminal import progress_bar

    with progress_bar("reading") as progress:
        result = survey(folder, seed=seed, progress=progress)
    if as_json:
        print_json(result)
    else:
        _print_survey(result)
    if result.problems:
        raise BadInput(f"{folder}: {len(result.problems)} problem{'s' * (len(result.problems) > 1)} found")


def _print_survey(result: Survey) -> None:
    click.echo(f"{result.path}: {result.images} images, {result.groups} groups, split {result.split_by}")
    width = max(len(row.name) for row in result.classes)
    click.echo(f"  {'class':{width}}  {'role':6} {'images':>7} {'groups':>7} {'train':>6} {'val':>6} {'test':>6}")
    for row in result.classes:
        sides = " ".join(f"{row.splits.get(name, 0):6}" for name in ("train", "val", "test"))
        click.echo(f"  {row.name:{width}}  {row.role:6} {row.images:7} {row.groups:7} {sides}")
    if result.passed_over:
        places = ", ".join(f"{count} {place}" for place, count in result.passed_over.items())
        count = sum(result.passed_over.values())
        click.echo(f"  {count} file{'s' * (count > 1)} passed over: {places}")
    for problem in result.problems:
        click.echo(f"  problem: {problem}")
