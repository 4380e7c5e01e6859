"""`lineside evaluate`: how good each artifact is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from device_agent.console import json_option, print_json
from device_agent.contract.errors import BadInput, BudgetMissed
from toolkit.commands.bench import Milliseconds

if TYPE_CHECKING:
    from toolkit.evaluation.findings import Findings, Questions
    from toolkit.runs import Run

_path = click.Path(path_type=Path)


@click.command("evaluate")
@click.argument("run_dir", metavar="RUN", type=_path)
@click.option(
    "--split",
    type=click.Choice(["val", "test"]),
    default="val",
    show_default=True,
    help="Images to score. Each scoring of the held-out test split is counted.",
)
@click.option(
    "--artifact", "names", multiple=True, help="Only this one, such as litert-int8, or keras; can be repeated."
)
@click.option("--threads", type=click.IntRange(1, 64), default=1, show_default=True)
@click.option("--slice", "slices", multiple=True, metavar="COLUMN", help="Figures by a column of the manifest, and a "
              "test of the gaps; times as in time:day, time:shift; can be repeated.")  # fmt: skip
@click.option("--slice-metric", default="accuracy", show_default=True, help="Or defect-recall, recall.CLASS ...")
@click.option("--protected", multiple=True, metavar="COLUMN", help="Equalised odds over a column; can be repeated.")
@click.option("--gallery", is_flag=True, help="Write a page with the pictures that are wrong, the worst first.")
@click.option("--failures", type=_path, help="Images that must be right (file, class): exit code 3 if one is not.")
@click.option("--keep-failures", "keep", type=_path, help="Append the images that are wrong to such a list.")
@click.option("--min", "minima", multiple=True, metavar="FIGURE=X", help="Exit code 3 if a figure is lower.")
@click.option("--max", "maxima", multiple=True, metavar="FIGURE=X", help="Exit code 3 if a figure is higher.")
@click.option("--gate-on", type=click.Choice(["bound", "value"]), default="bound", show_default=True,
              help="What --min and --max ask of: the bound of the 95 % interval, or the value.")  # fmt: skip
@click.option("--max-latency-ms", type=Milliseconds(min=0, min_open=True), help="The best recall among the "
              "artifacts whose measured latency is within this.")  # fmt: skip
@click.option("--latency", "quantile", type=click.Choice(["p50", "p99"]), default="p99", show_default=True)
@click.option("--annotations", type=_path, help="Judgements of several people (file, annotator, label).")
@click.option(
    "--against-simple-rule", "simple_rule", is_flag=True, help="Compare with thresholds on brightness, edges."
)
@click.option("--human-review", metavar="cost=X,recall=X,...", help="Compare with people: cost of one look, recall, "
              "false-alarms or precision, per-hour.")  # fmt: skip
@click.option("--on", "folder", type=_path, help="Ask for the images of another labelled folder as well.")
@click.option("--map", "mapping", multiple=True, metavar="THEIRS=OURS", help="A class of that folder by another name.")
@json_option
def evaluate(
    run_dir: Path,
    split: Literal["val", "test"],
    names: tuple[str, ...],
    threads: int,
    slices: tuple[str, ...],
    slice_metric: str,
    protected: tuple[str, ...],
    gallery: bool,
    failures: Path | None,
    keep: Path | None,
    minima: tuple[str, ...],
    maxima: tuple[str, ...],
    gate_on: Literal["bound", "value"],
    max_latency_ms: float | None,
    quantile: Literal["p50", "p99"],
    annotations: Path | None,
    simple_rule: bool,
    human_review: str | None,
    folder: Path | None,
    mapping: tuple[str, ...],
    as_json: bool,
) -> None:
    """Score the artifacts of RUN through the device's own preprocessing and runtimes.

    Saves RUN/evaluation/ARTIFACT.json, a reliability plot, and for each artifact its confusion matrix and
    precision-recall curves. Every figure has a 95 % interval over groups.

    \b
    Example: lineside evaluate runs/steel --slice camera --min recall.crack=0.9 --gallery
    """
    from toolkit.evaluation.findings import Questions
    from toolkit.evaluation.gates import parse_gate
    from toolkit.evaluation.human_review import parse_review
    from toolkit.runs import open_run

    questions = Questions(
        slices=list(slices),
        slice_metric=slice_metric,
        protected=list(protected),
        gallery=gallery,
        failures=failures,
        keep=keep,
        gates=[parse_gate(text, "min") for text in minima] + [parse_gate(text, "max") for text in maxima],
        gate_on=gate_on,
        annotations=annotations,
        simple_rule=simple_rule,
        review=parse_review(human_review) if human_review else None,
        folder=folder,
        mapping=_mapping(mapping, folder),
    )
    run = open_run(run_dir)
    results = _find(run, names, questions, split, threads, max_latency_ms, quantile)
    if as_json:
        print_json(results)
    else:
        from toolkit.commands.evaluation_tables import print_findings

        print_findings(results, _reliability(run, split))
    missed = [phrase for one in results for phrase in one.missed()]
    if missed:
        more = f" and {len(missed) - 10} more" if len(missed) > 10 else ""
        raise BudgetMissed(f"{run.dir}: not reached: {'; '.join(missed[:10])}{more}")


def _find(
    run: Run,
    names: tuple[str, ...],
    questions: Questions,
    split: Literal["val", "test"],
    threads: int,
    max_latency_ms: float | None,
    quantile: Literal["p50", "p99"],
) -> list[Findings]:
    from msgspec.structs import replace

    from toolkit.artifacts import open_artifacts
    from toolkit.evaluation.answers import subject_of
    from toolkit.evaluation.findings import find
    from toolkit.evaluation.latency import figure_under_limit
    from toolkit.evaluation.reliability_plot import plot_reliability
    from toolkit.terminal import progress_bar

    chosen = [subject_of(run, name).name for name in dict.fromkeys(names)] or [one.name for one in open_artifacts(run)]
    if questions.keep is not None and len(chosen) > 1:
        raise BadInput(f"--keep-failures needs one artifact; choose with --artifact {chosen[0]}")
    if split == "test":
        click.echo("the held-out test split is being scored; a choice made by it spoils it", err=True)
    results = []
    for name in chosen:
        click.echo(f"{name}: {split} images ...", err=True)
        with progress_bar(name) as progress:
            results.append(find(run, name, questions, split=split, threads=threads, progress=progress))
    plot_reliability(_reliability(run, split), results)
    if max_latency_ms is not None:
        under = figure_under_limit(run, results, max_latency_ms, quantile=quantile)
        results = [replace(one, under_limit=under) for one in results]
    return results


def _reliability(run: Run, split: str) -> Path:
    return run.dir / "evaluation" / ("reliability.png" if split == "val" else f"reliability.{split}.png")


def _mapping(texts: tuple[str, ...], folder: Path | None) -> dict[str, str]:
    if texts and folder is None:
        raise BadInput("--map says what classes of another folder are called here; give the folder with --on")
    found = {}
    for text in texts:
        theirs, sign, ours = text.partition("=")
        if not sign or not theirs or not ours or theirs in found:
            raise BadInput(f"--map must be like THEIRS=OURS, each of theirs once; got {text!r}")
        found[theirs] = ours
    return found
