"""What int8 costs on X-SDD: each network against its own float answers, in every runtime, on folds that it never saw.

    python benchmarks/int8/run.py train            # what no other benchmark trains; goes on
    python benchmarks/int8/run.py convert          # all int8 artifacts, as `lineside convert` makes them; goes on
    python benchmarks/int8/run.py table --write

Runs lie under ./runs; those of benchmarks/xsdd have to be there. Artifacts that were made by other converters are made
anew.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import click

sys.path.insert(0, str(Path(__file__).parents[1] / "xsdd"))

from folded import DATA, FOLDS, WEIGHTS, answered, fold_split
from pooled import gain, pool

from converters.artifact import read_artifact
from converters.instruction_set import instruction_set
from toolkit.conversion import convert_run
from toolkit.data.images import open_dataset
from toolkit.models.architecture import Architecture
from toolkit.runs import Run, open_run
from toolkit.training.bar import TrainingBar
from toolkit.training.recipe import make_recipe
from toolkit.training.trainer import train as train_run

RUNS = Path("runs")
OWN = RUNS / "int8"
RUNTIMES = ("litert", "onnx", "openvino")
SEED = 0
LIMITS = {"mobilenet-v1": 0.5, "mobilenet-v2": 0.5, "mobilenet-v3-small": 1.0, "mobilenet-v3-large": 1.0}

HEAD = """Machine: {machine}, shared with other work. Group-wise folds of seed {seed}; each network answers for the fold
that it never saw, all pooled; the float answers are Keras'. Differences are paired, 95 % over groups. Equal, 1, 2,
more: logits that differ from LiteRT's int8 logits by so many steps of their scale, on the images that the conversion
judged by. Refused: neither smaller nor faster than float, or the gate was not passed."""


class Network(NamedTuple):
    """A network, where the run of each of its folds lies, and the weights it is trained from if that is done here."""

    label: str
    folder: Callable[[int], Path]
    architecture: Architecture | None = None
    weights: str | None = None
    epochs: int | None = None


NETWORKS = [
    Network("V2 1.0 @128", lambda fold: RUNS / f"xsdd/default/seed-0/fold-{fold}"),
    Network(
        "V2 0.35 @96",
        lambda fold: OWN / f"v2-0.35/fold-{fold}",
        Architecture(family="mobilenet-v2", alpha=0.35, size=96),
    ),
    Network(
        "V3-Small 0.35 @96",
        lambda fold: OWN / f"v3-small/fold-{fold}",
        Architecture(family="mobilenet-v3-small", alpha=0.35, size=96),
    ),
    Network(
        "V3-Small 1.0 @96",
        lambda fold: OWN / f"v3-small-1.0/fold-{fold}",
        Architecture(family="mobilenet-v3-small", alpha=1.0, size=96),
    ),
    Network(
        "V1 0.25 @128",
        lambda fold: OWN / f"v1-0.25/fold-{fold}",
        Architecture(family="mobilenet-v1", alpha=0.25, size=128),
        "keras/mobilenet_2_5_224_tf_no_top.h5",
    ),
    Network(
        "V1 0.5 @128",
        lambda fold: OWN / f"v1-0.5/fold-{fold}",
        Architecture(family="mobilenet-v1", alpha=0.5, size=128),
        "keras/mobilenet_v1_0.5_160_dequant_no_top.h5",
    ),
    Network(
        "V3-Large 0.5 @96",
        lambda fold: OWN / f"v3-large-0.5/fold-{fold}",
        Architecture(family="mobilenet-v3-large", alpha=0.5, size=96),
    ),
]


@click.group()
def main() -> None:
    """Int8 against float, pooled over folds."""


@main.command()
@click.option("--only", default="", help="Networks whose label has this in it.")
def train(only: str) -> None:
    """Train what no other benchmark trains."""
    dataset = open_dataset(DATA)
    for network in NETWORKS:
        if network.architecture is None or only not in network.label:
            continue
        weights = None if network.weights is None else str(WEIGHTS / network.weights)
        recipe = make_recipe(network.architecture, weights=weights, epochs=network.epochs, seed=SEED)
        for fold in range(FOLDS):
            with TrainingBar() as bar:
                split = fold_split(dataset, fold, SEED)
                done = train_run(dataset, split, network.folder(fold), recipe, weights=weights, watch=bar)
            click.echo(f"{network.label}, fold {fold}: {done.metrics}")


@main.command()
@click.option("--only", default="", help="Networks whose label has this in it.")
@click.option("--fold", "folds", type=int, multiple=True, help="These folds; all without.")
def convert(only: str, folds: tuple[int, ...]) -> None:
    """Make the int8 artifacts of every run that is there."""
    names = [f"{runtime}-int8" for runtime in RUNTIMES]
    for network, run in runs_there(only, folds):
        for each in convert_run(run, names):
            scheme = each.artifact.scheme if each.artifact is not None else None
            click.echo(f"{network.label} {run.dir.name} {each.name}: {each.outcome}; {scheme and scheme.reason}")


@main.command()
@click.option("--write", is_flag=True, help="Write results.md beside this file.")
def table(write: bool) -> None:
    """Print the tables."""
    text = "\n".join(_report())
    click.echo(text)
    if write:
        Path(__file__).with_name("results.md").write_text(text + "\n")


def runs_there(only: str = "", folds: tuple[int, ...] = ()) -> list[tuple[Network, Run]]:
    return [
        (network, open_run(network.folder(fold)))
        for network in NETWORKS
        if only in network.label
        for fold in folds or range(FOLDS)
        if (network.folder(fold) / "metrics.json").exists()
    ]


def _report() -> list[str]:
    lines = [
        "# int8 on X-SDD: measured",
        "",
        textwrap.fill(HEAD.format(machine=instruction_set(), seed=SEED), 120),
        "",
        "| network | runtime | folds | scheme | float macro-F1 % | int8 macro-F1 % | difference, points (95 %) |"
        " worst fold | aim |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    steps = ["", "| network | runtime | equal % | 1 | 2 | more | time / own quantizer's, each fold |",
             "| --- | --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    for network in NETWORKS:
        runs = [run for each, run in runs_there() if each is network]
        for runtime in RUNTIMES:
            name = f"{runtime}-int8"
            there = [run for run in runs if name in run.artifacts()]
            if there:
                lines.append(_row(network, runtime, there, len(runs)))
            elif runs:
                lines.append(f"| {network.label} | {runtime} | 0 of {len(runs)} | refused by `convert` | | | | | |")
            records = [read_artifact(run.artifact_dir(name)) for run in there]
            schemes = [each.scheme for each in records if each is not None and each.scheme is not None]
            if runtime != "litert" and schemes:
                counts = [sum(each.lsb[step] if step < len(each.lsb) else 0 for each in schemes) for step in range(200)]
                total = max(sum(counts), 1)
                times = ", ".join(f"{each.ms / each.native_ms:.2f}" for each in schemes if each.ms and each.native_ms)
                steps.append(
                    f"| {network.label} | {runtime} | {100 * counts[0] / total:.2f} | {counts[1]} | {counts[2]} |"
                    f" {sum(counts[3:])} | {times} |"
                )
    return lines + steps


def _row(network: Network, runtime: str, runs: list[Run], folds: int) -> str:
    name = f"{runtime}-int8"
    keras, ours = ([answered(run, each) for run in runs] for each in ("keras", name))
    before, after = pool(keras), pool(ours)
    worst = min(100 * (pool([a]).macro_f1 - pool([k]).macro_f1) for k, a in zip(keras, ours, strict=True))
    difference = gain(before, after, SEED)
    limit = LIMITS[runs[0].record.family]
    met = 100 * (before.macro_f1 - after.macro_f1) <= limit and worst >= -2 and len(runs) == folds
    records = [read_artifact(run.artifact_dir(name)) for run in runs]
    schemes = sorted({each.scheme.chosen for each in records if each is not None and each.scheme is not None})
    return (
        f"| {network.label} | {runtime} | {len(runs)} of {folds} | {', '.join(schemes)} | {100 * before.macro_f1:.2f} |"
        f" {100 * after.macro_f1:.2f} | {100 * difference.value:+.2f} ({100 * difference.low:+.2f} to"
        f" {100 * difference.high:+.2f}) | {worst:+.2f} | -{limit}, no fold under -2: {'met' if met else 'missed'} |"
    )


if __name__ == "__main__":
    main()
