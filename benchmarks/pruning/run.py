"""What pruning keeps on X-SDD: V2 1.0 cut to the MACs of V2 0.35 at 128 px, against V2 0.35 from scratch.

python benchmarks/pruning/run.py train [--fold K] [--seed S]     parent, pruned with its control, small from scratch
python benchmarks/pruning/run.py convert [--fold K] [--seed S]   int8 in each runtime: parent by the runtime's own
                                                                 quantizer, pruned by the product; timed in turns
python benchmarks/pruning/run.py table [--write]                 pooled figures; with --write also results.md

The parent is the fold's own V2 1.0 of benchmarks/xsdd. Pruned and small network take the same steps, in the same views,
from the same teacher, the parent. The settings of the pruning were chosen on the validation images of fold 0. Runs and
teachers' answers are kept: a call that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "xsdd"))

import folded
from pooled import Pooled, gain, pool, scores

from converters.artifact import file_sha256
from converters.parity import answers
from device_agent.contract.files import write_whole
from toolkit.artifacts import open_artifact
from toolkit.benchmark import Subject
from toolkit.compression.outcome import Pruning, Request, Timing, read_pruning
from toolkit.compression.pruning import prune
from toolkit.compression.speed import compare, write_file
from toolkit.compression.teaching import VIEWS, taught
from toolkit.conversion import convert_run, draw_rows
from toolkit.data.images import Dataset, load, open_dataset
from toolkit.models.architecture import Architecture
from toolkit.runs import Run, open_run
from toolkit.training.bar import TrainingBar
from toolkit.training.distillation import open_distillation, taught_by
from toolkit.training.examples import policy_of
from toolkit.training.recipe import make_recipe
from toolkit.training.teachers import open_teachers
from toolkit.training.trainer import train

HERE = Path(__file__).parent
INT8 = ("litert-int8", "onnx-int8", "openvino-int8")
SMALL = Architecture(family="mobilenet-v2", alpha=0.35, size=128)
PARENT_MACS, SMALL_MACS = 97_803_008, 18_949_632
ROUNDS, EPOCHS, LAST_EPOCHS = 3, 2, 8
RATE, SMALL_RATE = 1e-3, 3e-3  # the latter is the best of benchmarks/distill for V2 0.35 with this teacher
TEACHING = {"temperature": 4.0, "weight": 0.9}
FOLDS, SEEDS = range(5), (0, 1, 2)
AIM = 3.0  # points of macro-F1 over the small network
FASTER, LOSS = 2.0, -1.0  # pruned int8 against unpruned int8: times as fast, lower bound in points


def parent_of(dataset: Dataset, runs: Path, fold: int, seed: int) -> Run:
    """The run of V2 1.0 that never saw the fold; it is trained if it is not there."""
    folder: Path = folded.where(runs, "default", seed, fold)
    if not (folder / "metrics.json").exists():
        folded.train_fold(dataset, fold, seed, "default", folder)
    return open_run(folder)


def request_of(parent: Run, seed: int) -> Request:
    """What the pruning is asked for."""
    return Request(
        budget="macs", share=SMALL_MACS / PARENT_MACS, rounds=ROUNDS, epochs=EPOCHS, last_epochs=LAST_EPOCHS, lr=RATE,
        seed=seed, teachers=[file_sha256(parent.model_path)], temperature=TEACHING["temperature"],
        teacher_weight=TEACHING["weight"],
    )  # fmt: skip


def train_pruned(parent: Run, out: Path, fold: int, seed: int) -> Pruning:
    """The pruned run of a fold."""
    request = request_of(parent, seed)
    with TrainingBar() as bar:
        teach = taught(parent, [parent.dir], out / "teaching", request)
        return prune(
            parent, where(out, "pruned", fold, seed), request, artifacts=["litert-fp32", "onnx-fp32"], teach=teach,
            watch=bar,
        )  # fmt: skip


def train_small(dataset: Dataset, parent: Run, out: Path, fold: int, seed: int) -> None:
    """The small network of a fold, from scratch: as many epochs, the same views, the same teacher."""
    sides = folded.fold_split(dataset, fold, seed)
    epochs = sum(request_of(parent, seed).all_epochs)
    recipe = make_recipe(SMALL, epochs=epochs, patience=epochs, lr=SMALL_RATE, views=VIEWS, seed=seed)
    teachers = open_teachers([parent.dir], dataset, sides)
    recipe, distil = taught_by(recipe, teachers, **TEACHING)

    def make(model, data_sha256):  # type: ignore[no-untyped-def]
        return open_distillation(
            teachers, distil, dataset, np.flatnonzero(sides == "train"), cache=out / "teaching",
            data_sha256=data_sha256, policy=policy_of(recipe), seed=seed, task=recipe.task, features=None,
        )  # fmt: skip

    with TrainingBar() as bar:
        train(dataset, sides, where(out, "small", fold, seed), recipe, watch=bar, extra=make)


def where(out: Path, arm: str, fold: int, seed: int) -> Path:
    """Folder of one run."""
    return out / arm / f"seed-{seed}" / f"fold-{fold}"


class Rival(msgspec.Struct):
    """The parent as one runtime's own quantizer has it, and how long it and the pruned file take in turns; `logits` are
    the parent's, (n, classes), for the fold that no network saw."""

    timing: Timing
    logits: list[list[float]]


def convert(parent: Run, out: Path, fold: int, seed: int) -> None:
    """The pruned run through the product's gate, the parent by each runtime's own quantizer, timed in turns:
    int8.json beside the pruned run."""
    pruned, spec = open_run(where(out, "pruned", fold, seed)), parent.record.input
    if (pruned.dir / "int8.json").exists() and all(name in pruned.artifacts() for name in INT8):
        return
    convert_run(pruned, list(INT8))
    dataset, rivals = parent.dataset(), {}
    calibration = load(dataset, spec, draw_rows(parent).calibration)
    images = load(dataset, spec, parent.rows("test"))
    for name in INT8:
        artifact = open_artifact(pruned, name)
        ours = Subject(artifact.files[0], artifact.runtime, artifact.precision, artifact.size_bytes)
        with tempfile.TemporaryDirectory() as folder:
            stock = write_file(parent.model(), name, spec, calibration, Path(folder) / "stock")
            logits = answers(stock.runtime, stock.path, spec, images)
            rivals[name] = Rival(compare(name, stock, ours, spec), logits.tolist())
    write_whole(pruned.dir / "int8.json", msgspec.json.encode(rivals))


def report(out: Path, runs: Path) -> str:
    """results.md."""
    done = [
        (seed, fold)
        for seed in SEEDS
        for fold in FOLDS
        if all((where(out, arm, fold, seed) / "metrics.json").exists() for arm in ("pruned", "small"))
    ]
    if not done:
        raise SystemExit(f"{out}: no fold has both networks yet; begin with: {Path(__file__).name} train")
    parts = {
        "parent, V2 1.0": _pooled([folded.where(runs, "default", seed, fold) for seed, fold in done]),
        "pruned to the MACs of V2 0.35": _pooled([where(out, "pruned", fold, seed) for seed, fold in done]),
        "V2 0.35 from scratch": _pooled([where(out, "small", fold, seed) for seed, fold in done]),
    }
    parent, pruned, small = parts.values()
    found = [read_pruning(where(out, "pruned", fold, seed)) for seed, fold in done]
    lines = [*_preamble(open_run(where(out, "pruned", done[0][1], done[0][0])), done)]
    lines += [
        "| network | million MACs | images | accuracy % (95 %) | macro-F1 % (95 %) |",
        "| --- | --- | --- | --- | --- |",
    ]
    macs = [found[0].macs[0], max(each.macs[1] for each in found if each), SMALL_MACS] if found[0] else []
    for (name, part), cost in zip(parts.items(), macs, strict=True):
        lines.append(f"| {name} | {cost / 1e6:.2f} | {scores(part, 0)} |")
    over, under = gain(small, pruned, 0), gain(parent, pruned, 0)
    met = "met" if 100 * over.value >= AIM else "missed"
    lines += ["", f"Pruned less small: {_points(over)}; aim {AIM:+g}: {met}. Pruned less parent: {_points(under)}.", ""]
    lines += _controls([each for each in found if each])
    return "\n".join([*lines, *_int8(out, runs, done)]) + "\n"


def _controls(found: list[Pruning]) -> list[str]:
    """On the validation images, where the control is."""
    means = [
        100 * float(np.mean([score.macro_f1 for score in each]))
        for each in zip(*((one.parent_score, one.pruned_score, one.control_score) for one in found), strict=True)
    ]
    return [
        f"Validation images, mean of the folds: parent {means[0]:.2f}, pruned {means[1]:.2f}, control (the parent "
        f"after the same {found[0].control_epochs} epochs) {means[2]:.2f}.",
        "",
    ]


def _int8(out: Path, runs: Path, done: list[tuple[int, int]]) -> list[str]:
    """Pruned against unpruned, both int8, where they are converted."""
    there = [(seed, fold) for seed, fold in done if (where(out, "pruned", fold, seed) / "int8.json").exists()]
    if not there:
        return []
    folders = [(folded.where(runs, "default", seed, fold), where(out, "pruned", fold, seed)) for seed, fold in there]
    kind = dict[str, Rival]
    rivals = [msgspec.json.decode((pruned / "int8.json").read_bytes(), type=kind) for _, pruned in folders]
    lines = [
        "Pruned int8 as `lineside convert` makes it against the unpruned parent by each runtime's own quantizer, runs: "
        f"{len(there)}, one thread, in turns, medians, measured on {rivals[0][INT8[0]].timing.device}. Aim: {FASTER:g} "
        f"times as fast, and a lower bound above {LOSS:g}.",
        "",
        "| artifact | stock, unpruned ms | pruned ms | times as fast | stock macro-F1 % | pruned macro-F1 % |"
        " difference, points (95 %) | aim |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in INT8:
        timings = [each[name].timing for each in rivals]
        floats = [folded.answered(open_run(parent), "keras") for parent, _ in folders]
        before = pool(
            [
                known._replace(logits=np.array(each[name].logits, np.float32))
                for known, each in zip(floats, rivals, strict=True)
            ]
        )
        after = _pooled([pruned for _, pruned in folders], name)
        factor = float(np.median([timing.factor for timing in timings]))
        fell = gain(before, after, 0)
        met = "met" if factor >= FASTER and 100 * fell.low > LOSS else "missed"
        ms = [float(np.median([getattr(timing, side) for timing in timings])) for side in ("parent_ms", "pruned_ms")]
        lines.append(
            f"| {name} | {ms[0]:.3f} | {ms[1]:.3f} | {factor:.2f} | {100 * before.macro_f1:.2f} |"
            f" {100 * after.macro_f1:.2f} | {_points(fell)} | {met} |"
        )
    return lines


def _pooled(folders: list[Path], name: str = "keras") -> Pooled:
    return pool([folded.answered(open_run(folder), name) for folder in folders])


def _points(found) -> str:  # type: ignore[no-untyped-def]
    return f"{100 * found.value:+.2f} ({100 * found.low:+.2f} to {100 * found.high:+.2f}) points"


def _preamble(run: Run, done: list[tuple[int, int]]) -> list[str]:
    packages = ", ".join(f"{name} {version}" for name, version in run.record.packages.items())
    return [
        "# Pruning on X-SDD: measured",
        "",
        f"Machine: {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, shared with other "
        f"work; {packages}. Date: {time.strftime('%Y-%m-%d')}.",
        f"@128, {ROUNDS} rounds of {EPOCHS} epochs, the last of {LAST_EPOCHS}, rate {RATE:g}; the small network as "
        f"many epochs at {SMALL_RATE:g}; both with the parent as teacher, {VIEWS} views. "
        f"Data: sha256 {run.record.data_sha256[:16]}.",
        f"Done: {', '.join(f'seed {seed} fold {fold}' for seed, fold in done)}. Keras unless named otherwise, on "
        "the folds that no network saw, pooled; differences are paired, 95 % intervals over groups.",
        "",
    ]


def main() -> None:
    """Do one stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=["train", "convert", "table"])
    parser.add_argument("--arm", choices=["pruned", "small"], help="this network only")
    parser.add_argument("--fold", type=int, choices=FOLDS, help="this fold only")
    parser.add_argument("--seed", type=int, choices=SEEDS, help="this seed only")
    parser.add_argument("--write", action="store_true", help="write results.md")
    parser.add_argument("--out", type=Path, default=Path("runs/pruning"), help="folder of the runs")
    parser.add_argument("--parents", type=Path, default=Path("runs/xsdd"), help="runs of benchmarks/xsdd")
    given = parser.parse_args()
    if given.stage == "table":
        text = report(given.out, given.parents)
        print(text)
        if given.write:
            write_whole(HERE / "results.md", text)
        return
    dataset = open_dataset(folded.DATA)
    for seed in SEEDS if given.seed is None else [given.seed]:
        for fold in FOLDS if given.fold is None else [given.fold]:
            parent = parent_of(dataset, given.parents, fold, seed)
            if given.stage == "convert":
                convert(parent, given.out, fold, seed)
                continue
            if given.arm != "small":
                train_pruned(parent, given.out, fold, seed)
            if given.arm != "pruned":
                train_small(dataset, parent, given.out, fold, seed)


if __name__ == "__main__":
    main()
