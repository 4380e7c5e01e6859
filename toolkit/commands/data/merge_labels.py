"""`lineside data merge-labels`: one class an image from several annotators."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from device_agent.console import json_option, print_json

if TYPE_CHECKING:
    from toolkit.data.merging import MergeResult, Method


@click.command("merge-labels")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Manifest to write, in the folder of images."
)
@click.option(
    "--method",
    type=click.Choice(["majority", "dawid-skene"]),
    default="majority",
    show_default=True,
    help="Count labels alike, or weigh each annotator by estimated errors.",
)
@click.option("--manifest", type=click.Path(path_type=Path), help="Take over the other columns of this manifest.")
@click.option("--force", is_flag=True, help="Replace another manifest and annotations.csv.")
@json_option
def merge_labels(
    files: tuple[Path, ...], out: Path, method: Method, manifest: Path | None, force: bool, as_json: bool
) -> None:
    """Merge tables of file, annotator and label (csv or parquet) into a manifest with one class an image.

    Images for which no class is ahead are listed and left out. All labels stay in annotations.csv beside the manifest.

    \b
    Example: lineside data merge-labels anna.csv ben.csv cleo.csv --out data/steel/manifest.csv --method dawid-skene
    """
    from toolkit.data.merging import merge_labels as merge

    result = merge(files, out, method=method, manifest=manifest, force=force)
    if as_json:
        print_json(result)
    else:
        _print_merge(result)


def _print_merge(result: MergeResult) -> None:
    click.echo(f"{result.path}: {result.decided} of {result.images} images have a class by {result.method}")
    width = max(len(name) for name in [*result.names, *(row.name for row in result.annotators), "annotator"])
    for name, count in result.classes.items():
        click.echo(f"  {name:{width}} {count:8}")
    click.echo(
        f"  Fleiss' kappa {_number(result.fleiss_kappa)}, Krippendorff's alpha {_number(result.krippendorff_alpha)}"
    )
    click.echo(f"  {'annotator':{width}} {'images':>8} {'accuracy':>9} {'agreement':>10}   most often confused")
    for row in result.annotators:
        figures = f"{row.images:8} {_number(row.accuracy):>9} {_number(row.agreement):>10}"
        click.echo(f"  {row.name:{width}} {figures}   {_worst(row.confusion, result.names)}")
    click.echo("  accuracy: against the merged class; agreement: with each other annotator on the same images")
    if result.alone:
        click.echo(f"  {result.alone} images were labelled by one annotator only")
    if result.without_labels:
        click.echo(f"  {result.without_labels} images of the given manifest have no label and are left out")
    for tie in result.ties:
        click.echo(f"  tie: {tie.file} ({', '.join(f'{count} {name}' for name, count in tie.votes.items())})")
    if result.ties:
        click.echo(f"  {len(result.ties)} images without a class are left out; have them labelled once more")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _worst(confusion: list[list[int]], names: list[str]) -> str:
    """The commonest error of an annotator.

    >>> _worst([[5, 2], [0, 7]], ["good", "pit"])
    'good as pit (2 of 7)'
    """
    errors = [
        (count, truth, given)
        for truth, row in enumerate(confusion)
        for given, count in enumerate(row)
        if truth != given and count
    ]
    if not errors:
        return "-"
    count, truth, given = max(errors)
    return f"{names[truth]} as {names[given]} ({count} of {sum(confusion[truth])})"
