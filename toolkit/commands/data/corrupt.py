"""`lineside data corrupt`: copies of one's own pictures with what goes wrong on a line."""

from __future__ import annotations

from pathlib import Path

import click

from device_agent.console import json_option, print_json


@click.command("corrupt")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--kind",
    "kinds",
    metavar="KIND[:SEVERITY]",
    multiple=True,
    required=True,
    help="motion, jpeg:3 ... or all; can be repeated, and each picture then gets one of them.",
)
@click.option(
    "--severity", type=click.IntRange(1, 5), help="Of every kind that names none; without it, drawn from 1 to 5."
)
@click.option("--share", type=float, default=1.0, show_default=True, help="Share of the pictures that are spoilt.")
@click.option("--lens", metavar="COLUMN", help="Column that tells lenses apart. [default: camera or device, if there]")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed gives the same pictures.")
@json_option
def corrupt(
    folder: Path,
    out: Path,
    kinds: tuple[str, ...],
    severity: int | None,
    share: float,
    lens: str | None,
    seed: int,
    as_json: bool,
) -> None:
    """Copy the pictures of FOLDER to OUT, spoilt by noise, blur, dirt, bad light or compression.

    The severities are those of ImageNet-C. The copies are png files; manifest.csv keeps every column, group and split,
    and says in corruption and severity what was done to each. Lens dirt and light stay the same for one lens.

    \b
    Example: lineside data corrupt data/steel data/steel-motion --kind motion --severity 3
    """
    from toolkit.data.faults import read_faults, spoil
    from toolkit.terminal import progress_bar

    words = [kind if ":" in kind or severity is None else f"{kind}:{severity}" for kind in kinds]
    faults = read_faults(words, share)
    with progress_bar("spoiling") as progress:
        result = spoil(folder, out, faults, seed=seed, lens=lens, progress=progress)
    if as_json:
        print_json(result)
        return
    by_lens = f", lenses by {result.lens}" if result.lens else ""
    click.echo(f"{result.path}: {result.images} images{by_lens}")
    for kind, count in result.spoilt.items():
        click.echo(f"  {kind:14} {count:6} images")
