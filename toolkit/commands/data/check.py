"""`lineside data check`: look a data set over."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from device_agent.console import json_option, print_json
from device_agent.contract.errors import BadInput

if TYPE_CHECKING:
    from toolkit.data.survey import Backbone, Survey

_SHOWN = 10  # label suspects on the terminal


@click.command("check")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--seed",
    type=click.IntRange(0, 2**31 - 1),
    default=0,
    show_default=True,
    help="Seed of the split, as --split-seed of lineside train.",
)
@click.option(
    "--html", type=click.Path(path_type=Path), help="Write a page with pictures of the findings to this file."
)
@click.option("--quick", is_flag=True, help="Leave out label suspects and signs of poisoning.")
@click.option("--strict", is_flag=True, help="Warnings end with exit code 1, too.")
@click.option("--weights", help="Judge labels with this backbone as well: a file of weights, or imagenet.")
@click.option("--model", "family", default="mobilenet-v2", show_default=True, help="Backbone of --weights.")
@click.option("--width", type=float, default=1.0, show_default=True, help="Width of the backbone of --weights.")
@click.option("--size", type=int, default=128, show_default=True, help="Side in px of the backbone's input.")
@json_option
def check(
    folder: Path,
    seed: int,
    html: Path | None,
    quick: bool,
    strict: bool,
    weights: str | None,
    family: str,
    width: float,
    size: int,
    as_json: bool,
) -> None:
    """Read every image of a data set; show its classes, groups and split, and what is wrong or doubtful.

    Problems: an image that cannot be read, equal images of two classes, images that cannot be split. Warnings: copies
    that stand apart, shortcuts that give the class away, labels that are likely wrong, images unlike their class,
    marks, sources that are suddenly other. Ends with exit code 1 on a problem, with --strict also on a warning.

    \b
    Example: lineside data check data/steel --html steel.html
    """
    from toolkit.data.survey import survey

    if weights is not None and quick:
        raise click.UsageError("--weights is for label suspects, which --quick leaves out")
    backbone = _backbone(family, width, size, weights) if weights is not None else None
    with ExitStack() as bars:
        result = survey(folder, seed=seed, depth="quick" if quick else "full", backbone=backbone, progress=_watch(bars))
    if html is not None:
        from toolkit.data.check_page import write_page

        write_page(result, html)
    if as_json:
        print_json(result)
    else:
        _print_survey(result, html)
    wrong = len(result.problems)
    if wrong:
        raise BadInput(f"{folder}: {wrong} problem{'s' * (wrong > 1)} found")
    warned = len(result.of("warning"))
    if strict and warned:
        raise BadInput(f"{folder}: {warned} warning{'s' * (warned > 1)} found, and --strict was given")


def _watch(bars: ExitStack) -> Callable[[str], Callable[[int, int], None]]:
    """A bar for each step; the one before it goes."""
    from toolkit.terminal import progress_bar

    def begin(step: str) -> Callable[[int, int], None]:
        bars.close()
        return bars.enter_context(progress_bar(step))

    return begin


def _backbone(family: str, width: float, size: int, weights: str) -> Backbone:
    from toolkit.models.architecture import Architecture
    from toolkit.models.features import backbone_features

    architecture = Architecture(family=family, alpha=width, size=size)
    architecture.check()
    return lambda dataset, progress: backbone_features(dataset, architecture, weights, progress)


def _print_survey(result: Survey, html: Path | None) -> None:
    click.echo(f"{result.path}: {result.images} images, {result.groups} groups, split {result.split_by}")
    width = max(len(row.name) for row in result.classes)
    click.echo(f"  {'class':{width}}  {'role':6} {'images':>7} {'groups':>7} {'train':>6} {'val':>6} {'test':>6}")
    for row in result.classes:
        sides = " ".join(f"{row.splits.get(name, 0):6}" for name in ("train", "val", "test"))
        click.echo(f"  {row.name:{width}}  {row.role:6} {row.images:7} {row.groups:7} {sides}")
    fewest, median, most = result.images_per_group
    click.echo(f"  imbalance {result.imbalance:g}:1; images per group {fewest} to {most}, median {median}")
    if result.rarest is not None and result.split_by != "not possible":
        click.echo(f"  {result.rarest.sentence}")
    if result.passed_over:
        places = ", ".join(f"{count} {place}" for place, count in result.passed_over.items())
        count = sum(result.passed_over.values())
        click.echo(f"  {count} file{'s' * (count > 1)} passed over: {places}")
    for finding in result.findings:
        click.echo(f"  {finding.severity}: {finding.sentence}")
    _print_suspects(result)
    if html is not None:
        click.echo(f"  pictures of the findings: {html}")


def _print_suspects(result: Survey) -> None:
    doubt = result.doubt
    if doubt.skipped:
        click.echo(f"  labels were not judged: {doubt.skipped}")
        return
    click.echo(f"  labels to look at first, of {len(doubt.suspects)} that are ranked (0 is surely wrong):")
    for each in doubt.suspects[:_SHOWN]:
        click.echo(f"    {each.score:6.3f}  {each.file}: given {each.given!r}, looks like {each.likely!r}")
