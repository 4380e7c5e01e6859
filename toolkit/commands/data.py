"""`lineside data`: draw a data set, look one over."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from device_agent.console import json_option, print_json
from device_agent.contract.errors import BadInput

if TYPE_CHECKING:
    from toolkit.survey import Survey
    from toolkit.synth import SynthResult


@click.group("data")
def data() -> None:
    """Draw a data set, or look one over.

    \b
    Example: lineside data synth data/steel && lineside data check data/steel
    """


@data.command("synth")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--images", default=2000, show_default=True, help="Number of images.")
@click.option("--defects", default=0.5, show_default=True, help="Share of defective parts; 0.01 gives 99 to 1.")
@click.option("--size", default=96, show_default=True, help="Side of an image in px.")
@click.option("--seed", default=0, show_default=True, help="The same seed gives the same bytes.")
@click.option("--cameras", default=2, show_default=True, help="Number of cameras.")
@click.option("--photos-per-part", default=3, show_default=True, help="Photographs of each part; they are one group.")
@click.option("--product", default=0, show_default=True, help="0 brushed steel, 1 milled bronze, 2 blasted aluminium.")
@click.option("--contrast", default=1.0, show_default=True, help="How clearly defects show; 2 is easy.")
@click.option("--force", is_flag=True, help="Replace a data set drawn earlier.")
@json_option
def synth(
    out: Path,
    images: int,
    defects: float,
    size: int,
    seed: int,
    cameras: int,
    photos_per_part: int,
    product: int,
    contrast: float,
    force: bool,
    as_json: bool,
) -> None:
    """Draw photographs of metal parts, good and with four kinds of defect, into folder OUT.

    \b
    Example: lineside data synth data/steel --images 2000 --seed 1
    """
    from toolkit.synth import SynthRecipe, synthesize
    from toolkit.terminal import progress_bar

    recipe = SynthRecipe(
        images=images,
        defects=defects,
        size=size,
        seed=seed,
        cameras=cameras,
        photos_per_part=photos_per_part,
        product=product,
        contrast=contrast,
    )
    with progress_bar("drawing") as progress:
        result = synthesize(out, recipe, force=force, progress=progress)
    if as_json:
        print_json(result)
    else:
        _print_drawn(result)


@data.command("check")
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
    from toolkit.survey import survey
    from toolkit.terminal import progress_bar

    with progress_bar("reading") as progress:
        result = survey(folder, seed=seed, progress=progress)
    if as_json:
        print_json(result)
    else:
        _print_survey(result)
    if result.problems:
        raise BadInput(f"{folder}: {len(result.problems)} problem{'s' * (len(result.problems) > 1)} found")


def _print_drawn(result: SynthResult) -> None:
    click.echo(f"{result.path}: {sum(result.images.values())} images of {sum(result.parts.values())} parts")
    for kind, count in result.images.items():
        note = "  (under 3 parts: too few to train on)" if result.parts[kind] < 3 else ""
        click.echo(f"  {kind:8} {count:6} images {result.parts[kind]:6} parts{note}")


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
