"""What `--recipe auto` gains on InfraredSolarModules, 12 classes at 57 to 1.

python benchmarks/ism/run.py import                        the images as a data set, once
python benchmarks/ism/run.py rates                         every learning rate once, seed 0, judged on validation
python benchmarks/ism/run.py train [--seed S] [--arm A]    each arm at its own best rate
python benchmarks/ism/run.py table [--write]               scored on the test images; with --write also results.md

Both arms have the same network, images, steps and epochs; `plain` is cross entropy on the images as they come, `auto`
what toolkit.training.auto chooses. What is there already is not done again: a call that was interrupted
goes on.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from pathlib import Path

import numpy as np

from device_agent.contract.files import write_whole
from toolkit.data.arrays import import_arrays
from toolkit.data.images import Dataset, open_dataset
from toolkit.data.splits import split
from toolkit.evaluation.answers import answers_of
from toolkit.evaluation.paired import Difference, differences
from toolkit.models.architecture import Architecture
from toolkit.runs import Run, open_run
from toolkit.training.auto import choose, facts_of
from toolkit.training.bar import TrainingBar
from toolkit.training.recipe import Recipe, make_recipe
from toolkit.training.results import TrainingResult
from toolkit.training.trainer import train

HERE = Path(__file__).parent
SOURCE = Path(os.environ.get("LINESIDE_DATA", "../shared/data")) / "ism" / "ism_full.npz"
NETWORK = Architecture(family="mobilenet-v3-small", alpha=0.5, size=48, minimalistic=True)
EPOCHS, BATCH = 6, 64
RATES = (3e-3, 1e-2, 2e-2)
SEEDS, SPLIT_SEED = (0, 1, 2), 0
ARMS = ("plain", "auto")
AIM_F1, AIM_ACCURACY = 5.0, -2.0  # points


def recipe(arm: str, rate: float, seed: int, dataset: Dataset, rows: np.ndarray) -> tuple[Recipe, list[str]]:
    """The recipe of an arm, and the reasons that auto gives."""
    asked = {"epochs": EPOCHS, "batch": BATCH, "lr": rate, "patience": EPOCHS, "seed": seed}
    if arm == "plain":
        return make_recipe(NETWORK, loss="cross-entropy", **asked), []
    choice = choose(facts_of(dataset, rows, make_recipe(NETWORK, **asked)))
    return make_recipe(NETWORK, **(choice.overrides | asked)), choice.reasons


def train_arm(data: Path, out: Path, arm: str, rate: float, seed: int) -> TrainingResult:
    """The run of an arm; the split is the same for all."""
    dataset = open_dataset(data)
    sides = split(dataset, SPLIT_SEED)
    chosen, reasons = recipe(arm, rate, seed, dataset, np.flatnonzero(sides == "train"))
    with TrainingBar() as bar:
        return train(dataset, sides, where(out, arm, rate, seed), chosen, watch=bar, reasons=reasons)


def where(out: Path, arm: str, rate: float, seed: int) -> Path:
    """Folder of one run."""
    return out / arm / f"rate-{rate:g}" / f"seed-{seed}"


def best_rate(out: Path, arm: str) -> float:
    """The learning rate with the highest macro-F1 on validation, seed 0."""
    return max(RATES, key=lambda rate: open_run(where(out, arm, rate, 0)).record.metrics["val_macro_f1"])


def report(out: Path) -> str:
    """results.md."""
    rates = {arm: best_rate(out, arm) for arm in ARMS}
    done = [seed for seed in SEEDS if all((where(out, arm, rates[arm], seed) / "model.keras").exists() for arm in ARMS)]
    if not done:
        raise SystemExit(f"{out}: no seed is trained by both recipes yet; begin with: {Path(__file__).name} train")
    runs = {(arm, seed): open_run(where(out, arm, rates[arm], seed)) for arm in ARMS for seed in done}
    lines = [*_preamble(runs["auto", done[0]], rates), *_rates_section(out)]
    lines += [
        f"## Test images, Keras, seeds {', '.join(map(str, done))}",
        "",
        "| seed | plain macro-F1 % | auto macro-F1 % | gain (95 %) | plain accuracy % | auto accuracy % | (95 %) |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    gains = []
    for seed in done:
        found = compare(runs["plain", seed], runs["auto", seed])
        gains.append([found["macro-f1"].value, found["accuracy"].value])
        lines.append(f"| {seed} | {_cells(found['macro-f1'])} | {_cells(found['accuracy'])} |")
    f1, accuracy = 100 * np.mean(gains, axis=0)
    verdicts = ["met" if good else "missed" for good in (f1 >= AIM_F1, accuracy >= AIM_ACCURACY)]
    lines += [
        "",
        f"Mean gain in macro-F1 {f1:+.2f} points (aim {AIM_F1:+g}: {verdicts[0]}), in accuracy {accuracy:+.2f} points "
        f"(aim {AIM_ACCURACY:+g}: {verdicts[1]}).",
        "",
        "What auto says:",
        "",
        *(f"- {reason}" for reason in runs["auto", done[0]].record.reasons),
    ]
    return "\n".join(lines) + "\n"


def compare(plain: Run, auto: Run) -> dict[str, Difference]:
    """Figures of both on the test images, each image a group of its own: no parts are stated in this set."""
    before, after = answers_of(plain, "keras", "test"), answers_of(auto, "keras", "test")
    one_hot, names = np.eye(len(plain.labels), dtype=bool), [label.name for label in plain.labels]
    said = [one_hot[each.logits.argmax(axis=1)] for each in (before, after)]
    return differences(one_hot[before.labels], *said, before.groups, names, seed=0)


def _cells(found: Difference) -> str:
    gain = f"{100 * found.value:+.2f} ({100 * found.low:+.2f} to {100 * found.high:+.2f})"
    return f"{100 * found.a:.2f} | {100 * found.b:.2f} | {gain}"


def _preamble(run: Run, rates: dict[str, float]) -> list[str]:
    packages = ", ".join(f"{name} {version}" for name, version in run.record.packages.items())
    return [
        "# InfraredSolarModules: measured",
        "",
        f"Machine: {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, shared with other "
        f"work; {packages}. Date: {time.strftime('%Y-%m-%d')}.",
        f"{NETWORK.family} {NETWORK.alpha:g} minimal @{NETWORK.size} from scratch, {EPOCHS} epochs of batch {BATCH}; "
        f"split seed {SPLIT_SEED} (70, 15, 15 %). Learning rates, each arm's own best on validation (seed 0): "
        f"{', '.join(f'{arm} {rate:g}' for arm, rate in rates.items())}. Data: sha256 {run.record.data_sha256[:16]}.",
        "",
    ]


def _rates_section(out: Path) -> list[str]:
    lines = ["## Validation, seed 0", "", "| arm | rate | macro-F1 % | accuracy % |", "| --- | --- | --- | --- |"]
    for arm in ARMS:
        for rate in RATES:
            figures = open_run(where(out, arm, rate, 0)).record.metrics
            shown = " | ".join(f"{100 * figures[name]:.2f}" for name in ("val_macro_f1", "val_accuracy"))
            lines.append(f"| {arm} | {rate:g} | {shown} |")
    return [*lines, ""]


def main() -> None:
    """Do one stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=["import", "rates", "train", "table"])
    parser.add_argument("--seed", type=int, choices=SEEDS, help="this seed only")
    parser.add_argument("--arm", choices=ARMS, help="this arm only")
    parser.add_argument("--write", action="store_true", help="write results.md")
    parser.add_argument("--out", type=Path, default=Path("runs/ism"), help="folder of data and runs (default runs/ism)")
    given = parser.parse_args()
    arms = ARMS if given.arm is None else [given.arm]
    if given.stage == "import":
        if not (given.out / "data").exists():
            import_arrays(SOURCE, given.out / "data", good="No-Anomaly")
    elif given.stage == "table":
        text = report(given.out)
        print(text)
        if given.write:
            write_whole(HERE / "results.md", text)
    else:
        seeds = SEEDS if given.seed is None else [given.seed]
        for arm in arms:
            pairs = [(rate, 0) for rate in RATES] if given.stage == "rates" else None
            for rate, seed in pairs or [(best_rate(given.out, arm), seed) for seed in seeds]:
                result = train_arm(given.out / "data", given.out, arm, rate, seed)
                figures = f"macro-F1 {result.metrics.macro_f1:.4f}, accuracy {result.metrics.accuracy:.4f}"
                print(f"{arm}, rate {rate:g}, seed {seed}: epoch {result.epoch}, validation {figures}", file=sys.stderr)


if __name__ == "__main__":
    main()
