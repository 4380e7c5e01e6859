"""What a teacher gives a small student on X-SDD: five group-wise folds, three seeds.

python benchmarks/distill/run.py rates [--student S]                     learning rates on fold 0, seed 0, by validation
python benchmarks/distill/run.py train [--student S] [--fold K] [--seed S]   teacher, student alone, student taught
python benchmarks/distill/run.py table [--write]                         pooled figures; with --write also results.md

The teacher is the fold's own V2 1.0 of benchmarks/xsdd, the students start from scratch; both arms take the same steps,
each at its own best learning rate. Runs and teachers' answers are kept: a call that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "xsdd"))

import folded
from pooled import gain, pool

from device_agent.contract.files import write_whole
from toolkit.data.images import Dataset, open_dataset
from toolkit.evaluation.paired import Difference
from toolkit.models.architecture import Architecture
from toolkit.runs import Run, open_run
from toolkit.training.bar import TrainingBar
from toolkit.training.distillation import open_distillation, taught_by
from toolkit.training.examples import policy_of
from toolkit.training.recipe import make_recipe
from toolkit.training.results import TrainingResult
from toolkit.training.teachers import open_teachers
from toolkit.training.trainer import train

HERE = Path(__file__).parent
STUDENTS = {
    "v2-0.35": Architecture(family="mobilenet-v2", alpha=0.35, size=96),
    "v3-small": Architecture(family="mobilenet-v3-small", alpha=1.0, size=96),
}
ARMS = ("alone", "taught")
RATES = {"v2-0.35": (1e-3, 3e-3, 6e-3, 1.2e-2), "v3-small": (1e-3, 3e-3, 6e-3)}  # until neither arm's best is an end
EPOCHS, VIEWS = 16, 8
TEACHING = {"temperature": 4.0, "weight": 0.9, "feature_weight": 0.0}
FOLDS, SEEDS = range(5), (0, 1, 2)
AIM = 1.0  # points of macro-F1, on average


def teacher_of(dataset: Dataset, runs: Path, fold: int, seed: int) -> Path:
    """The run of V2 1.0 that never saw the fold; it is trained if it is not there."""
    folder: Path = folded.where(runs, "default", seed, fold)
    if not (folder / "metrics.json").exists():
        folded.train_fold(dataset, fold, seed, "default", folder)
    return folder


def train_student(
    dataset: Dataset, out: Path, runs: Path, student: str, arm: str, rate: float, fold: int, seed: int
) -> TrainingResult:
    """The run of one student, alone or taught; nothing is done again that is there."""
    sides = folded.fold_split(dataset, fold, seed)
    recipe = make_recipe(STUDENTS[student], epochs=EPOCHS, patience=EPOCHS, lr=rate, views=VIEWS, seed=seed)
    make = None
    if arm == "taught":
        teachers = open_teachers([teacher_of(dataset, runs, fold, seed)], dataset, sides)
        recipe, distil = taught_by(recipe, teachers, **TEACHING)

        def make(model, data_sha256):  # type: ignore[no-untyped-def]
            return open_distillation(
                teachers, distil, dataset, np.flatnonzero(sides == "train"), cache=out / "teaching",
                data_sha256=data_sha256, policy=policy_of(recipe), seed=seed, task=recipe.task,
                features=int(model.get_layer("pooled").output.shape[-1]),
            )  # fmt: skip

    with TrainingBar() as bar:
        return train(dataset, sides, where(out, student, arm, rate, fold, seed), recipe, watch=bar, extra=make)


def where(out: Path, student: str, arm: str, rate: float, fold: int, seed: int) -> Path:
    """Folder of one run."""
    return out / student / arm / f"rate-{rate:g}" / f"seed-{seed}" / f"fold-{fold}"


def best_rate(out: Path, student: str, arm: str) -> float:
    """The learning rate with the highest macro-F1 on the validation images of fold 0, seed 0."""
    runs = {rate: open_run(where(out, student, arm, rate, 0, 0)) for rate in RATES[student]}
    return max(runs, key=lambda rate: runs[rate].record.metrics["val_macro_f1"])


def report(out: Path, runs: Path) -> str:
    """results.md."""
    first = open_run(where(out, next(iter(STUDENTS)), "taught", best_rate(out, next(iter(STUDENTS)), "taught"), 0, 0))
    lines = [*_preamble(first), "| student | rates | seeds | folds | teacher | alone | taught | gain (95 %) | aim |"]
    lines.append("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    costs = []
    for student in STUDENTS:
        rates = {arm: best_rate(out, student, arm) for arm in ARMS}
        done = [
            (seed, fold)
            for seed in SEEDS
            for fold in FOLDS
            if all((where(out, student, arm, rates[arm], fold, seed) / "metrics.json").exists() for arm in ARMS)
        ]
        if not done:
            continue
        parts = {
            arm: pool([_answered(where(out, student, arm, rates[arm], fold, seed)) for seed, fold in done])
            for arm in ARMS
        }
        taught = pool([_answered(folded.where(runs, "default", seed, fold)) for seed, fold in done])
        found: Difference = gain(parts["alone"], parts["taught"], 0)
        cells = [
            student,
            ", ".join(f"{arm} {rate:g}" for arm, rate in rates.items()),
            ", ".join(str(seed) for seed in sorted({seed for seed, _ in done})),
            str(len(done)),
            f"{100 * taught.macro_f1:.2f}",
            *(f"{100 * parts[arm].macro_f1:.2f}" for arm in ARMS),
            f"{100 * found.value:+.2f} ({100 * found.low:+.2f} to {100 * found.high:+.2f})",
            f"{AIM:+g}: {'met' if 100 * found.value >= AIM else 'missed'}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
        costs.append(f"- {student}: {_cost(out, student, rates, done)}")
    lines += ["", f"What an epoch costs once the answers to all {VIEWS} views are kept, medians:", "", *costs]
    return "\n".join(lines) + "\n"


def _cost(out: Path, student: str, rates: dict[str, float], done: list[tuple[int, int]]) -> str:
    """Seconds of the epochs after the last new view, of both arms; each fold's pair was trained close in time."""
    taken = {
        arm: [
            float(row["seconds"])
            for seed, fold in done
            for row in list(csv.DictReader((where(out, student, arm, rates[arm], fold, seed) / "history.csv").open()))
            if int(row["epoch"]) > VIEWS
        ]
        for arm in ARMS
    }
    alone, taught = (float(np.median(taken[arm])) for arm in ARMS)
    return f"alone {alone:.1f} s, taught {taught:.1f} s, {taught / alone:.2f} times"


def _answered(folder: Path):  # type: ignore[no-untyped-def]
    return folded.answered(open_run(folder), "keras")


def _preamble(run: Run) -> list[str]:
    packages = ", ".join(f"{name} {version}" for name, version in run.record.packages.items())
    return [
        "# Distillation on X-SDD: measured",
        "",
        f"Machine: {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, shared with other "
        f"work; {packages}. Date: {time.strftime('%Y-%m-%d')}.",
        f"Students @{run.record.recipe['size']} from scratch, teacher V2 1.0 @128; {EPOCHS} epochs of {VIEWS} views, "
        f"batch {run.record.recipe['batch']}; teaching "
        f"{', '.join(f'{name} {value:g}' for name, value in TEACHING.items())}. Data: sha256 "
        f"{run.record.data_sha256[:16]}.",
        "",
        "Macro-F1 in %, Keras, on the fold that neither student nor teacher saw, all folds and seeds pooled; the "
        "interval is paired and over groups (a group's images of all seeds are drawn together).",
        "",
    ]


def main() -> None:
    """Do one stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=["rates", "train", "table"])
    parser.add_argument("--student", choices=STUDENTS, help="this student only")
    parser.add_argument("--fold", type=int, choices=FOLDS, help="this fold only")
    parser.add_argument("--seed", type=int, choices=SEEDS, help="this seed only")
    parser.add_argument("--write", action="store_true", help="write results.md")
    parser.add_argument("--out", type=Path, default=Path("runs/distill"), help="folder of the students")
    parser.add_argument("--teachers", type=Path, default=Path("runs/xsdd"), help="runs of benchmarks/xsdd")
    given = parser.parse_args()
    if given.stage == "table":
        text = report(given.out, given.teachers)
        print(text)
        if given.write:
            write_whole(HERE / "results.md", text)
        return
    dataset = open_dataset(folded.DATA)
    seeds, folds = (
        [each] if each is not None else list(every) for each, every in ((given.seed, SEEDS), (given.fold, FOLDS))
    )
    for student in STUDENTS if given.student is None else [given.student]:
        for arm in ARMS:
            places = [(rate, 0, 0) for rate in RATES[student]]
            if given.stage == "train":
                places = [(best_rate(given.out, student, arm), fold, seed) for seed in seeds for fold in folds]
            for rate, fold, seed in places:
                result = train_student(dataset, given.out, given.teachers, student, arm, rate, fold, seed)
                what = f"{student} {arm}, rate {rate:g}, fold {fold}, seed {seed}"
                print(
                    f"{what}: epoch {result.epoch}, validation macro-F1 {result.metrics.macro_f1:.4f}", file=sys.stderr
                )


if __name__ == "__main__":
    main()
