"""`lineside diff`: what is different between two models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from device_agent.console import json_option, print_json
from device_agent.contract.errors import BadInput, BudgetMissed

if TYPE_CHECKING:
    from toolkit.explanation.difference import ModelDifference


@click.command("diff")
@click.argument("a", metavar="A", type=click.Path(path_type=Path))
@click.argument("b", metavar="B", type=click.Path(path_type=Path))
@click.option("--artifact", "names", multiple=True, help="Of a side that is a run; given twice, of A and of B.  "
              "[default: litert-int8]")  # fmt: skip
@click.option("--data", type=click.Path(path_type=Path), help="Folder of images in class folders to ask both about.")
@click.option("--split", type=click.Choice(["val", "test"]), default="val", show_default=True, help="Of two runs.")
@click.option("--no-latency", is_flag=True, help="Do not measure latency.")
@click.option("--quick", is_flag=True, help="Time each for 0.2 s instead of 1.5.")
@click.option("--layers", type=click.IntRange(0, 10_000), default=15, show_default=True, help="Shown here.")
@click.option("--max-flips", type=click.IntRange(0), help="End with exit code 3 where more decisions flip.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for diff.html and flips.html.")
@json_option
def diff(
    a: Path,
    b: Path,
    names: tuple[str, ...],
    data: Path | None,
    split: Literal["val", "test"],
    no_latency: bool,
    quick: bool,
    layers: int,
    max_flips: int | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Show what is different between two models: weights, quantization, size, latency, accuracy, and the images on
    which decisions flip.

    A and B are runs, folders of artifacts, or model files (.tflite, .onnx, .xml). Two runs are asked about images that
    neither was trained on; files about those of --data.

    \b
    Example: lineside diff runs/steel runs/steel-pruned --out pages
             lineside diff old.tflite new.tflite --data data/steel --max-flips 3
    """
    from toolkit.explanation.difference import find_difference
    from toolkit.explanation.sides import open_side

    if len(names) > 2:
        raise BadInput(f"--artifact can be given once for both sides or twice, got {len(names)}")
    chosen = (names[0], names[-1]) if names else ("litert-int8", "litert-int8")
    sides = open_side(a, chosen[0]), open_side(b, chosen[1])
    if sides[0].files[0].resolve() == sides[1].files[0].resolve():
        raise BadInput(f"{a}: both sides are the same file; name two artifacts with --artifact")
    if split == "test" and data is None:
        click.echo("the held-out test split is being scored; a choice made by it spoils it", err=True)
    found = find_difference(
        *sides,
        data=data,
        split=split,
        seconds=0.0 if no_latency else 0.2 if quick else 1.5,
        progress=lambda said: click.echo(said, err=True),
    )
    if max_flips is not None and found.decisions is None:
        raise BadInput("--max-flips needs images: name a folder with --data, or two runs")
    if out is not None:
        from toolkit.explanation.difference_page import write_difference

        write_difference(out, found)
    if as_json:
        print_json(found)
    else:
        _print(found, layers, out)
    flips = 0 if found.decisions is None else len(found.decisions.flips)
    if max_flips is not None and flips > max_flips:
        raise BudgetMissed(f"{flips} decisions flip, allowed {max_flips}")


def _print(found: ModelDifference, layers: int, out: Path | None) -> None:
    from rich.table import Table

    from toolkit.explanation.difference_words import figure_rows, flip_rows, layer_rows, sentences
    from toolkit.terminal import print_tables

    shown = {"figures": figure_rows(found)}
    if found.changed and layers:
        shown[f"layers that differ, {len(found.changed)} of {len(found.layers)}, most first"] = layer_rows(
            found, layers
        )
    if found.decisions is not None and found.decisions.flips:
        shown[f"decisions that flip, {len(found.decisions.flips)} of {found.decisions.images}"] = flip_rows(found, 20)
    tables = []
    for title, (columns, rows) in shown.items():
        table = Table(title=title, title_justify="left")
        for place, column in enumerate(columns):
            table.add_column(column, justify="left" if place == 0 else "right")
        for row in rows:
            table.add_row(*row)
        tables.append(table)
    click.echo(f"A: {found.a}\nB: {found.b}")
    print_tables(*tables)
    for sentence in sentences(found):
        click.echo(sentence)
    if out is not None:
        click.echo(f"pages: {out / 'diff.html'}{', flips.html' if found.decisions is not None else ''}")
