"""`lineside ablation`: several runs in one table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from device_agent.console import json_option, print_json

if TYPE_CHECKING:
    from toolkit.report.ablation import Ablation, AblationRow


@click.command("ablation")
@click.argument("run_dirs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--artifact", default="keras", show_default=True, help="Such as litert-int8; keras is the model itself.")
@click.option("--split", type=click.Choice(["val", "test"]), default="val", show_default=True)
@click.option("--csv", "csv_path", type=click.Path(path_type=Path, dir_okay=False), help="Write the table here too.")
@json_option
def ablation(
    run_dirs: tuple[Path, ...], artifact: str, split: Literal["val", "test"], csv_path: Path | None, as_json: bool
) -> None:
    """Show where the recipes of several RUNs differ and what came of it.

    Each is compared with the first: the gain in macro-F1 is taken on the images that both hold out, pairwise, with a
    95 % interval over parts.

    \b
    Example: lineside ablation runs/plain runs/auto runs/distilled
    """
    from device_agent.contract.files import write_whole
    from toolkit.report.ablation import ablate, csv_table
    from toolkit.runs import open_run

    runs = [open_run(folder) for folder in run_dirs]
    table = ablate(runs, artifact=artifact, split=split, progress=lambda line: click.echo(line, err=True))
    if csv_path is not None:
        write_whole(csv_path, csv_table(table))
    if as_json:
        print_json(table)
    else:
        _print(table)


def _print(table: Ablation) -> None:
    from rich.table import Table

    from toolkit.report.ablation import plain
    from toolkit.terminal import print_tables

    shown = Table(title=f"{table.artifact}, {table.split} images; intervals 95 % over parts", title_justify="left")
    shown.add_column("run")
    for name in (*table.fields, "accuracy", "macro-F1", "ECE", "gain, points of macro-F1"):
        shown.add_column(name, justify="right")
    for row in table.rows:
        one = row.evaluation
        low, high = one.macro_f1_interval
        figures = [f"{one.accuracy:.3f}", f"{one.macro_f1:.3f} ({low:.3f} to {high:.3f})", f"{one.ece:.3f}"]
        shown.add_row(row.run, *(plain(value) for value in row.asked.values()), *figures, _gain(row))
    print_tables(shown)
    if not table.same_data:
        click.echo("the runs were not made of the same images; gains are taken on those that they have in common")
    elif not table.same_split:
        click.echo(
            f"the runs were split differently: each one's own figures are of its own {table.split} images; gains are "
            "taken on those that they have in common"
        )
    for row in table.rows:
        if row.why_not:
            click.echo(f"{row.run}: no gain: {row.why_not}")


def _gain(row: AblationRow) -> str:
    if row.gain is None:
        return "-"
    value, low, high = (100 * each for each in (row.gain.value, row.gain.low, row.gain.high))
    return f"{value:+.2f} ({low:+.2f} to {high:+.2f}), {row.common} images"
