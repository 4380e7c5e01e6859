"""What quantization-aware training adds on X-SDD, with its control, for the network that loses most at int8.

    python benchmarks/int8/qat.py measure       # goes on
    python benchmarks/int8/qat.py table --write

Three arms of the same fold: int8 as it comes, after four epochs of quantization-aware training, and from the same start
with nothing learnt (the control). Each is LiteRT's shared file of the default options and answers for the fold that no
part of it saw. Nothing was chosen on these folds: epochs and rate are the product's, settled on validation images of
one fold.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import click
import numpy as np

sys.path.append(str(Path(__file__).parents[1] / "xsdd"))

from pooled import Fold, gain, pool
from run import NETWORKS, OWN, SEED, Network, runs_there

from converters import shared
from converters.keras_export import Export
from converters.parity import answers
from toolkit.conversion import draw_rows
from toolkit.data.images import load
from toolkit.runs import Run

EPOCHS = 4
ARMS = {"as it comes": None, "quantization-aware": EPOCHS, "nothing learnt": 0}
LABEL = "V1 0.25 @128"


@click.group()
def main() -> None:
    """Quantization-aware training against its control, pooled over folds."""


@main.command()
def measure() -> None:
    """Convert and answer, arm by arm; what is there stays."""
    for _network, run in runs_there(LABEL):
        if all(_place(run, arm).exists() for arm in ARMS):
            continue
        dataset, spec = run.dataset(), run.record.input
        with tempfile.TemporaryDirectory() as scratch:
            calibration = load(dataset, spec, draw_rows(run).calibration)
            images = load(dataset, spec, run.rows("train"))
            export = Export(run.model(), spec, calibration, Path(scratch), training=lambda images=images: images)
            for arm, epochs in ARMS.items():
                if _place(run, arm).exists():
                    continue
                each = export if epochs is None else export.taught(epochs, progress=click.echo)
                found = {
                    side: answers("litert", shared.source(each), spec, load(dataset, spec, run.rows(side)))
                    for side in ("val", "test")
                }
                _place(run, arm).parent.mkdir(parents=True, exist_ok=True)
                np.savez(_place(run, arm), **found)
                click.echo(f"{run.dir.name}: {arm}")


@main.command()
@click.option("--write", is_flag=True, help="Write qat.md beside this file.")
def table(write: bool) -> None:
    """Print the table."""
    (network,) = [each for each in NETWORKS if each.label == LABEL]
    text = "\n".join(_report(network))
    click.echo(text)
    if write:
        Path(__file__).with_name("qat.md").write_text(text + "\n")


def _report(network: Network) -> list[str]:
    runs = [run for each, run in runs_there(LABEL) if all(_place(run, arm).exists() for arm in ARMS)]
    before = pool([_fold(run, run.dir / "evaluation" / "keras") for run in runs])
    lines = [
        f"# Quantization-aware training of {network.label} on X-SDD: measured",
        "",
        f"{len(runs)} group-wise folds of seed {SEED}, pooled; float (Keras) {100 * before.macro_f1:.2f} % macro-F1.",
        f"Each arm against float, paired, 95 % over groups; {EPOCHS} epochs.",
        "",
        "| int8 | macro-F1 % | difference, points (95 %) | same class as float % |",
        "| --- | --- | --- | --- |",
    ]
    for arm in ARMS:
        after = pool([_fold(run, _place(run, arm).with_suffix("")) for run in runs])
        difference, same = gain(before, after, SEED), 100 * np.mean(before.said == after.said)
        lines.append(
            f"| {arm} | {100 * after.macro_f1:.2f} | {100 * difference.value:+.2f} ({100 * difference.low:+.2f} to"
            f" {100 * difference.high:+.2f}) | {same:.2f} |"
        )
    return lines


def _place(run: Run, arm: str) -> Path:
    return OWN / "qat" / run.dir.name / f"{arm.replace(' ', '-')}.npz"


def _fold(run: Run, stem: Path) -> Fold:
    """The answers of one arm, or Keras' own, as they were kept."""
    dataset = run.dataset()
    if stem.name == "keras":
        val, test = (np.load(f"{stem}.{side}.npz")["logits"] for side in ("val", "test"))
    else:
        kept = np.load(f"{stem}.npz")
        val, test = kept["val"], kept["test"]
    rows = {side: run.rows(side) for side in ("val", "test")}
    labels, groups = np.asarray(dataset.labels), np.asarray(dataset.groups)
    return Fold.of(labels[rows["test"]], groups[rows["test"]], test, val, labels[rows["val"]])


if __name__ == "__main__":
    main()
