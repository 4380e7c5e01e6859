"""`lineside explain`: why an int8 model says something else than the float one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from device_agent.console import json_option, print_json
from device_agent.contract.errors import BadInput

if TYPE_CHECKING:
    from toolkit.explanation.explanation import Explanation
    from toolkit.explanation.subject import Subject


@click.command("explain")
@click.argument("source", metavar="RUN|FILE", type=click.Path(path_type=Path))
@click.option("--artifact", default="litert-int8", show_default=True, help="Of the run.")
@click.option("--data", type=click.Path(path_type=Path), help="Folder of images in class folders, for a FILE.")
@click.option("--images", type=click.IntRange(2, 1000), default=32, show_default=True, help="To measure layers on.")
@click.option("--causes", type=click.IntRange(0, 50), default=5, show_default=True, help="Whose fixes are tried.")
@click.option(
    "--layers", type=click.IntRange(0, 10_000), default=15, show_default=True, help="The noisiest, shown here."
)
@click.option("--no-latency", is_flag=True, help="Do not measure what fixes cost in ms.")
@click.option("--quick", is_flag=True, help="Time each for 0.2 s instead of 1.5.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for explain.html.  "
              "[default: RUN/evaluation, or none for a FILE]")  # fmt: skip
@json_option
def explain(
    source: Path,
    artifact: str,
    data: Path | None,
    images: int,
    causes: int,
    layers: int,
    no_latency: bool,
    quick: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Explain what quantization did to each layer of RUN's int8 model, or of any quantized .tflite FILE.

    Shows the signal-to-noise ratio of every layer between float and int8, which layers are to blame for the noise in
    the answers, why, and what each fix gains and costs. Every fix is tried on the file and measured here.

    \b
    Example: lineside explain runs/steel
             lineside explain model.tflite --data data/steel --out pages
    """
    from toolkit.explanation.explanation import explain as find

    subject = _subject(source, artifact, data, images)
    found = find(
        subject,
        causes=causes,
        seconds=0.0 if no_latency else 0.2 if quick else 1.5,
        progress=lambda said: click.echo(said, err=True),
    )
    folder = out or (None if source.is_file() else source / "evaluation")
    if folder is not None:
        from toolkit.explanation.page import write_explanation

        write_explanation(folder / "explain.html", found)
    if as_json:
        print_json(found)
        return
    _print(found, layers)
    if folder is not None:
        click.echo(f"page: {folder / 'explain.html'}")


def _subject(source: Path, artifact: str, data: Path | None, images: int) -> Subject:
    from toolkit.explanation.subject import subject_of_file, subject_of_run
    from toolkit.runs import open_run

    if source.is_file() or source.suffix == ".tflite":
        if data is None:
            raise BadInput(f"{source}: a file needs images to be seen on; name a folder with --data")
        return subject_of_file(source, data, images=images)
    if data is not None:
        raise BadInput(f"{source}: a run has its own validation images; --data is for a file")
    return subject_of_run(open_run(source), artifact, images=images)


def _print(found: Explanation, layers: int) -> None:
    from rich.table import Table

    from toolkit.explanation.words import cause_rows, layer_rows, sentences
    from toolkit.terminal import print_tables

    title = f"the {min(layers, len(found.layers))} noisiest of {len(found.layers)} layers, in order"
    shown = {title: layer_rows(found, layers), "causes; fixes tried on the file": cause_rows(found)}
    tables = []
    for title, (columns, rows) in shown.items():
        table = Table(title=title, title_justify="left")
        for place, column in enumerate(columns):
            table.add_column(column, justify="left" if place == 0 or column in ("evidence", "fix") else "right")
        for row in rows:
            table.add_row(*row)
        tables.append(table)
    print_tables(*tables)
    for sentence in sentences(found):
        click.echo(sentence)
