"""`lineside compare`: two runs, or two artifacts of one, on the same images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from device_agent.console import json_option, print_json
from device_agent.contract.errors import BadInput

if TYPE_CHECKING:
    from toolkit.evaluation.comparison import Comparison
    from toolkit.runs import Run


@click.command("compare")
@click.argument("run_a", metavar="RUN_A", type=click.Path(path_type=Path))
@click.argument("run_b", metavar="RUN_B", type=click.Path(path_type=Path))
@click.option("--artifact", "names", multiple=True, help="Of both runs, such as litert-int8 or keras; given twice, "
              "of A and of B.  [default: the first that both have]")  # fmt: skip
@click.option("--split", type=click.Choice(["val", "test"]), default="val", show_default=True)
@click.option("--common", is_flag=True, help="Where the images differ, take those that both hold out.")
@click.option("--out", type=click.Path(path_type=Path), help="Page of the pictures that are decided differently.  "
              "[default: RUN_B/evaluation/compared.html]")  # fmt: skip
@click.option("--threads", type=click.IntRange(1, 64), default=1, show_default=True)
@json_option
def compare(
    run_a: Path,
    run_b: Path,
    names: tuple[str, ...],
    split: Literal["val", "test"],
    common: bool,
    out: Path | None,
    threads: int,
    as_json: bool,
) -> None:
    """Compare RUN_B with RUN_A on images that neither was trained on.

    Shows McNemar's test, the difference of each figure with its 95 % interval over groups, and what was fixed and
    broken in each class; writes a page of the pictures that are decided differently.

    \b
    Example: lineside compare runs/steel runs/steel-wider --artifact litert-int8
    """
    from toolkit.evaluation.comparison import Side, compare_models, write_flips
    from toolkit.runs import open_run

    runs = [open_run(path) for path in (run_a, run_b)]
    chosen = _choose(runs, names)
    if runs[0].dir.resolve() == runs[1].dir.resolve() and chosen[0] == chosen[1]:
        raise BadInput(f"{run_a}: both sides are the same {chosen[0]}; name two with --artifact")
    if split == "test":
        click.echo("the held-out test split is being scored; a choice made by it spoils it", err=True)
    sides = [Side(run, name) for run, name in zip(runs, chosen, strict=True)]
    found = compare_models(*sides, split=split, common=common, threads=threads)
    page = out or runs[1].dir / "evaluation" / "compared.html"
    write_flips(page, runs[0].dataset().dir, found)
    if as_json:
        print_json(found)
        return
    _print(found, page)


def _choose(runs: list[Run], names: tuple[str, ...]) -> tuple[str, str]:
    if len(names) > 2:
        raise BadInput(f"--artifact can be given once for both runs or twice, got {len(names)}")
    if names:
        return names[0], names[-1]
    both = [name for name in runs[0].artifacts() if name in runs[1].artifacts()]
    name = both[0] if both else "keras"
    return name, name


def _print(found: Comparison, page: Path) -> None:
    from rich.table import Table

    from toolkit.commands.evaluation_tables import add_differences
    from toolkit.terminal import print_tables

    title = (
        f"{found.split}: {found.images} images, {found.groups} groups that both hold out; intervals 95 %, over groups"
    )
    table, classes = Table(title=title, title_justify="left"), Table(title="decisions", title_justify="left")
    for column in ("figure", "A", "B", "B less A"):
        table.add_column(column, justify="left" if column == "figure" else "right")
    add_differences(table, found.figures)
    for column in ("class", "images", "fixed by B", "broken by B"):
        classes.add_column(column, justify="left" if column == "class" else "right")
    for one in found.classes:
        classes.add_row(one.name, str(one.images), str(one.fixed), str(one.broken))
    click.echo(f"A: {found.a}\nB: {found.b}")
    print_tables(table, classes)
    if any(found.left_out):
        click.echo(f"left out: {found.left_out[0]} images of A, {found.left_out[1]} of B")
    test = found.mcnemar
    click.echo(
        f"McNemar: only A right {test.only_a}, only B {test.only_b}; p {test.p:.3g} by image, "
        f"{test.p_groups:.3g} by group"
    )
    click.echo(found.verdict)
    click.echo(f"pictures: {page}")
