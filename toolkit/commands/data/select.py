"""`lineside data select`: what to label next."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from device_agent.console import json_option, print_json

if TYPE_CHECKING:
    from toolkit.data.selection import By, Spread, Strategy
    from toolkit.labelling import Chosen


@click.command("select")
@click.argument("run_dir", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("folder", metavar="POOL", type=click.Path(path_type=Path))
@click.option("--budget", type=click.IntRange(1), required=True, help="Number of pictures to label.")
@click.option(
    "--strategy",
    type=click.Choice(["mix", "uncertainty", "margin", "neyman", "diversity"]),
    default="mix",
    show_default=True,
    help="neyman: by chance, so that the labels tell the accuracy on the whole pool. mix: half of it neyman.",
)
@click.option("--per-group", type=click.IntRange(1), default=1, show_default=True, help="At most so many of one part.")
@click.option(
    "--group",
    metavar="COLUMN",
    help="Column that tells parts apart, or file for none. [default: group or part, else near copies are one group]",
)
@click.option("--artifact", metavar="NAME", help="Whose answers, such as litert-int8. [default: the run's first]")
@click.option(
    "--logits",
    type=click.Path(path_type=Path),
    help="Table of logits in place of running a model: file, and a column for each class.",
)
@click.option(
    "--by",
    type=click.Choice(["entropy", "least-confidence"]),
    default="entropy",
    show_default=True,
    help="Measure of uncertainty.",
)
@click.option(
    "--spread",
    type=click.Choice(["k-centre", "k-means++"]),
    default="k-centre",
    show_default=True,
    help="How diversity chooses.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--threads", type=click.IntRange(1, 64), default=1, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="Write the list here. [default: stdout]")
@click.option("--copy-to", type=click.Path(path_type=Path), help="Copy the chosen pictures into this new folder.")
@json_option
def select(
    run_dir: Path,
    folder: Path,
    budget: int,
    strategy: Strategy,
    per_group: int,
    group: str | None,
    artifact: str | None,
    logits: Path | None,
    by: By,
    spread: Spread,
    seed: int,
    threads: int,
    out: Path | None,
    copy_to: Path | None,
    as_json: bool,
) -> None:
    """Choose the pictures of folder POOL that should be labelled next, by what the model of RUN answers to them.

    The list is csv: file, an empty class to fill in, group, predicted, calibrated confidence, reason; and for those
    that were drawn by chance the cell, the probability of being drawn, and the weight. `lineside data estimate` tells
    the accuracy on the whole pool from the list when it is filled in.

    \b
    Example: lineside data select runs/steel data/new --budget 200 --out next.csv --copy-to data/next
    """
    from toolkit.data.pool import check_free
    from toolkit.data.selection import list_text
    from toolkit.labelling import Wishes, choose, copy_chosen, write_list
    from toolkit.runs import open_run
    from toolkit.terminal import progress_bar

    if copy_to is not None:
        check_free(copy_to, folder.parent if folder.is_file() else folder)
    wishes = Wishes(budget, strategy, per_group, group, by, spread, seed)
    with progress_bar("looking at the pool") as progress:
        chosen = choose(
            open_run(run_dir), folder, wishes, artifact=artifact, logits=logits, threads=threads, progress=progress
        )
    if logits is not None and artifact is None:
        click.echo("confidences are as the logits say; name their --artifact to have them calibrated", err=True)
    if copy_to is not None:
        copy_chosen(folder, chosen.selection, copy_to)
    if out is not None:
        write_list(out, chosen.selection)
    if as_json:
        print_json(chosen.selection)
    elif out is None:
        click.echo(list_text(chosen.selection), nl=False)
    _tell(chosen, out, copy_to)


def _tell(chosen: Chosen, out: Path | None, copy_to: Path | None) -> None:
    from toolkit.data.selection import reasons

    selection = chosen.selection
    said = ", ".join(f"{count} {reason}" for reason, count in reasons(selection).items())
    parts = f"{selection.groups} groups by {chosen.grouped_by}, at most {selection.per_group} of each"
    click.echo(f"{len(selection.picks)} of {selection.images} pictures ({parts}): {said}", err=True)
    click.echo(f"  answers: {chosen.answers_by}, temperature {selection.temperature:g}", err=True)
    if chosen.passed_over:
        click.echo(f"  {chosen.passed_over} that have a class were passed over", err=True)
    if chosen.trained_on:
        click.echo(f"  {chosen.trained_on} that the run was trained on were left out", err=True)
    if chosen.trained_on is None:
        click.echo("  whether some were trained on is not known: the run's own images are gone or changed", err=True)
    if len(selection.picks) < selection.budget:
        click.echo(f"  fewer than {selection.budget}: the groups give no more; see --per-group", err=True)
    for name, path in (("list", out), ("copies", copy_to)):
        if path is not None:
            click.echo(f"  {name}: {path}", err=True)
