"""`lineside evaluate`: how good each artifact is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from device_agent.console import json_option, print_json

if TYPE_CHECKING:
    from toolkit.evaluation.scores import Evaluation


@click.command("evaluate")
@click.argument("run_dir", metavar="RUN", type=click.Path(path_type=Path))
@click.option(
    "--split",
    type=click.Choice(["val", "test"]),
    default="val",
    show_default=True,
    help="Images to score. Each scoring of the held-out test split is counted.",
)
@click.option("--artifact", "names", multiple=True, help="Only this one, such as litert-int8; can be repeated.")
@click.option("--threads", type=click.IntRange(1, 64), default=1, show_default=True)
@json_option
def evaluate(run_dir: Path, split: Literal["val", "test"], names: tuple[str, ...], threads: int, as_json: bool) -> None:
    """Score the artifacts of RUN through the device's own preprocessing and runtimes.

    Saves RUN/evaluation/ARTIFACT.json and a reliability plot.

    \b
    Example: lineside evaluate runs/steel
    """
    from toolkit.artifacts import open_artifact, open_artifacts
    from toolkit.evaluation.reliability_plot import plot_reliability
    from toolkit.evaluation.scores import evaluate_artifact
    from toolkit.runs import open_run

    run = open_run(run_dir)
    artifacts = [open_artifact(run, name) for name in names] or open_artifacts(run)
    if split == "test":
        click.echo("the held-out test split is being scored; a choice made by it spoils it", err=True)
    results = []
    for artifact in artifacts:
        click.echo(f"{artifact.name}: {split} images ...", err=True)
        results.append(evaluate_artifact(run, artifact.name, split=split, threads=threads))
    plot = run.dir / "evaluation" / ("reliability.png" if split == "val" else "reliability.test.png")
    plot_reliability(plot, results)
    if as_json:
        print_json(results)
        return
    _print(results, plot)


def _print(results: list[Evaluation], plot: Path) -> None:
    from rich.table import Table

    from toolkit.terminal import print_tables

    first = results[0]
    title = f"{first.split} split: {first.images} images, {first.groups} groups; intervals 95 %"
    table = Table(title=title, title_justify="left")
    for column in ("artifact", "accuracy", "macro-F1", "balanced", "ECE before", "ECE", "temperature"):
        table.add_column(column, justify="left" if column == "artifact" else "right")
    for one in results:
        table.add_row(
            one.artifact,
            _interval(one.accuracy, one.accuracy_interval),
            _interval(one.macro_f1, one.macro_f1_interval),
            f"{one.balanced_accuracy:.3f}",
            f"{one.ece_raw:.3f}",
            f"{one.ece:.3f}",
            f"{one.temperature:.2f}",
        )
    recall = Table(title="recall of each class", title_justify="left")
    recall.add_column("class")
    for one in results:
        recall.add_column(one.artifact, justify="right")
    for label, *row in zip(first.labels, *(one.recall for one in results), strict=True):
        recall.add_row(label, *("-" if value is None else f"{value:.3f}" for value in row))
    print_tables(table, recall)
    if first.split == "test":
        click.echo(f"the test split was scored {max(one.times_scored for one in results)} times")
    click.echo(f"reliability: {plot}")


def _interval(value: float, interval: tuple[float, float]) -> str:
    return f"{value:.3f} ({interval[0]:.3f} to {interval[1]:.3f})"
