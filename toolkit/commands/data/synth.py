"""`lineside data synth`: draw a data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from device_agent.console import json_option, print_json

if TYPE_CHECKING:
    from toolkit.data.synth import SynthResult


@click.command("synth")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--images", default=2000, show_default=True, help="Number of images.")
@click.option("--defects", default=0.5, show_default=True, help="Share of defective parts; 0.01 gives 99 to 1.")
@click.option("--size", default=96, show_default=True, help="Side of an image in px.")
@click.option("--seed", default=0, show_default=True, help="The same seed gives the same bytes.")
@click.option("--cameras", default=2, show_default=True, help="Number of cameras.")
@click.option("--photos-per-part", default=3, show_default=True, help="Photographs of each part; they are one group.")
@click.option("--product", default=0, show_default=True, help="0 brushed steel, 1 milled bronze, 2 blasted aluminium.")
@click.option("--contrast", default=1.0, show_default=True, help="How clearly defects show; 2 is easy.")
@click.option(
    "--corrupt",
    "corrupt",
    metavar="KIND[:SEVERITY]",
    multiple=True,
    help="Spoil photographs: motion, jpeg:3 ... or all; can be repeated. Without a severity it is drawn from 1 to 5.",
)
@click.option(
    "--corrupt-share",
    type=float,
    default=0.5,
    show_default=True,
    help="Share of the images that --corrupt spoils.",
)
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
    corrupt: tuple[str, ...],
    corrupt_share: float,
    force: bool,
    as_json: bool,
) -> None:
    """Draw photographs of metal parts, good and with four kinds of defect, into folder OUT.

    \b
    Example: lineside data synth data/steel --images 2000 --seed 1
    """
    from toolkit.data.faults import read_faults
    from toolkit.data.synth import SynthRecipe, synthesize
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
        faults=read_faults(corrupt, corrupt_share) if corrupt else None,
    )
    with progress_bar("drawing") as progress:
        result = synthesize(out, recipe, force=force, progress=progress)
    if as_json:
        print_json(result)
    else:
        _print_drawn(result)


def _print_drawn(result: SynthResult) -> None:
    click.echo(f"{result.path}: {sum(result.images.values())} images of {sum(result.parts.values())} parts")
    for kind, count in result.images.items():
        note = "  (under 3 parts: too few to train on)" if result.parts[kind] < 3 else ""
        click.echo(f"  {kind:8} {count:6} images {result.parts[kind]:6} parts{note}")
