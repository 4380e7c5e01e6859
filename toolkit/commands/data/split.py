"""`lineside data split`: who is trained on, and who is not, written down."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from device_agent.console import json_option, print_json
from device_agent.contract.errors import BadInput

if TYPE_CHECKING:
    from toolkit.data.split_file import SplitResult

SIDES = ("train", "val", "test")


@click.command("split")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="The split file; default split.csv beside the manifest.")
@click.option(
    "--by",
    type=click.Choice(["group", "time"]),
    default="group",
    show_default=True,
    help="Deal groups out at random by class, or train on the earlier ones and test on the later.",
)
@click.option("--column", default="time", show_default=True, help="Column of the manifest with the times.")
@click.option("--shares", default="0.7,0.15,0.15", show_default=True, help="Shares of train, val and test.")
@click.option("--folds", default=0, metavar="K", help="Deal K folds, each of which can be the test split.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Seed of the split.")
@click.option("--anew", is_flag=True, help="Draw a split though the manifest has a column split.")
@click.option("--force", is_flag=True, help="Replace another split file.")
@json_option
def split(
    folder: Path,
    out: Path | None,
    by: Literal["group", "time"],
    column: str,
    shares: str,
    folds: int,
    seed: int,
    anew: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Split the images in FOLDER (or of a manifest) by group, and write it down with the digest of every image.

    `lineside train` takes split.csv where it lies with the images, and refuses it when one of them was changed.

    \b
    Example: lineside data split data/steel --by time --shares 0.7,0.15,0.15
    """
    from toolkit.data.images import open_dataset
    from toolkit.data.split_file import split_path, write_split_file
    from toolkit.terminal import progress_bar

    parts = parse_shares(shares)
    with progress_bar("reading") as progress:
        dataset = open_dataset(folder, progress=progress)
    with progress_bar("digests") as progress:
        result = write_split_file(
            dataset,
            out or split_path(dataset),
            by=by,
            column=column,
            shares=parts,
            seed=seed,
            k=folds,
            anew=anew,
            force=force,
            progress=progress,
        )
    if as_json:
        print_json(result)
    else:
        _print_split(result)


def parse_shares(text: str) -> tuple[float, float, float]:
    """Three shares that add up to 1.

    >>> parse_shares("0.8,0.1,0.1")
    (0.8, 0.1, 0.1)

    Raises:
        BadInput: not three numbers above 0 that add up to 1.
    """
    try:
        train, val, test = (float(part) for part in text.split(","))
    except ValueError:
        train = val = test = 0.0
    if not min(train, val, test) > 0 or abs(train + val + test - 1) > 1e-6:
        raise BadInput(f"shares must be three numbers above 0 that add up to 1, such as 0.7,0.15,0.15, got {text!r}")
    return train, val, test


def _print_split(result: SplitResult) -> None:
    note = result.note
    how = {"group": f"by group, seed {note.seed}", "time": "by time", "manifest": "as in the manifest"}[note.by]
    click.echo(f"{result.path}: {result.images} images, {result.groups} groups, {how}, sha256 {note.sha256[:16]}")
    width = max(15, *(len(row.name) for row in result.rows))
    click.echo(f"  {'images (groups)':{width}}  {''.join(f'{side:>16}' for side in SIDES)}")
    for row in result.rows:
        cells = "".join(f"{f'{row.images[side]} ({row.groups[side]})':>16}" for side in SIDES)
        click.echo(f"  {row.name:{width}}  {cells}")
    for period in result.periods:
        click.echo(f"  {period.side:5} {period.first} to {period.last}")
    if len(result.periods) == len(SIDES):
        cuts = " and ".join(f"after {period.last}" for period in result.periods[:-1])
        click.echo(f"  cut {cuts}; a group that goes on after a cut stands whole on the later side")
    if result.fold_images:
        click.echo(f"  folds of {', '.join(map(str, result.fold_images))} images; fold 0 is test, fold 1 is val")
