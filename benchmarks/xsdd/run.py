"""How well the product's recipe does on X-SDD, by Keras and through every artifact; see README.md.

python benchmarks/xsdd/run.py train [--recipe NAME] [--seed S] [--fold K]   a run for each fold, its test split
python benchmarks/xsdd/run.py convert [--fold K]     the artifacts of seed 0, recipe default
python benchmarks/xsdd/run.py table [--write]        pooled figures; with --write also to results.md

What is there already is not done again, so that a call that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from pathlib import Path

import numpy as np
from folded import BACKBONE, DATA, FOLDS, RECIPES, SEEDS, answered, train_fold, where
from pooled import Fold, gain, pool, scores

from device_agent.contract.files import write_whole
from toolkit.conversion import convert_run
from toolkit.data.images import open_dataset
from toolkit.evaluation.metrics import macro_f1
from toolkit.runs import Run, open_run

HERE = Path(__file__).parent
ARTIFACTS = ("litert-fp32", "onnx-fp32", "openvino-fp16", "litert-int8", "onnx-int8", "openvino-int8")
AIM, ECE_AIM = 97.0, 2.0  # % macro-F1 over all images, % calibration error
LOSS_LIMIT = -1.0  # points of macro-F1 that a fold may be under its own probe
LIMITS = {"fp32": 0.3, "fp16": 0.3, "int8": 1.5}  # points of macro-F1 that an artifact may be under Keras


def convert(run: Run) -> None:
    """All six artifacts of a run, through the product's own gate; what the gate refused is kept in refused.txt."""
    made = convert_run(run, ARTIFACTS, progress=lambda name: print(f"{run.dir}: {name}", file=sys.stderr))
    refused = [f"{each.reason}\n" for each in made if each.outcome == "failed"]
    write_whole(run.dir / "refused.txt", "".join(refused))
    print(f"{run.dir}: {', '.join(f'{each.name} {each.outcome}' for each in made)}")


def report(out: Path) -> str:
    """results.md."""
    done = [seed for seed in SEEDS if all(_is_done(where(out, "default", seed, fold)) for fold in range(FOLDS))]
    if not done:
        raise SystemExit(f"{out}: no seed has all its folds yet; begin with: {Path(__file__).name} train")
    runs = {
        (name, seed): [open_run(where(out, name, seed, fold)) for fold in range(FOLDS)]
        for seed in done
        for name in RECIPES
        if _is_done(where(out, name, seed, FOLDS - 1))
    }
    lines = _preamble(runs["default", done[0]][0])
    parts = {key: [answered(run, "keras") for run in each] for key, each in runs.items()}
    lines += _seeds_section(parts, runs)
    lines += _folds_section(parts)
    lines += _artifacts_section(runs["default", done[0]])
    return "\n".join(lines) + "\n"


def _is_done(folder: Path) -> bool:
    return (folder / "metrics.json").exists()


def _preamble(run: Run) -> list[str]:
    packages = ", ".join(f"{name} {version}" for name, version in run.record.packages.items())
    given = run.record.recipe
    shown = ("family", "alpha", "size", "epochs", "batch", "lr", "schedule", "ema", "decay", "loss", "smoothing")
    return [
        "# X-SDD: measured",
        "",
        f"Machine: {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, shared with other "
        f"work; {packages}. Date: {time.strftime('%Y-%m-%d')}.",
        f"Seeds of folds, validation and training: {', '.join(map(str, SEEDS))}. Images, classes and groups: sha256 "
        f"{run.record.data_sha256[:16]}. Backbone: {BACKBONE}.",
        f"Recipe: {', '.join(f'{name} {given.get(name)}' for name in shown)}.",
        "",
        "Intervals are 95 %, over groups; differences are paired, in points of macro-F1, on the same images. Artifacts "
        "are run by the device's own runtimes, one thread. ECE: 15 bins of equally many answers, over all folds "
        "together, the temperature of each run fitted on its own validation images.",
        "",
    ]


def _seeds_section(parts: dict[tuple[str, int], list[Fold]], runs: dict[tuple[str, int], list[Run]]) -> list[str]:
    lines = [
        f"## {FOLDS} group-wise folds, pooled, Keras",
        "",
        "| recipe | seed | images | accuracy % (95 %) | macro-F1 % (95 %) | ECE % | epochs kept (0: the probe) |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    means: dict[str, list[float]] = {}
    for (name, seed), each in parts.items():
        all_ = pool(each)
        kept = ", ".join(str(kept_epoch(run)) for run in runs[name, seed])
        lines.append(f"| {name} | {seed} | {scores(all_, seed)} | {100 * all_.ece:.2f} | {kept} |")
        means.setdefault(name, []).append(100 * all_.macro_f1)
    for name, values in means.items():
        lines.append(f"| {name} | mean of {len(values)} | | | {np.mean(values):.2f} | | |")
    mean = float(np.mean(means["default"]))
    return [*lines, "", f"Aim: macro-F1 at least {AIM:g} %: {_verdict(mean >= AIM)} ({mean:.2f}).", ""]


def _folds_section(parts: dict[tuple[str, int], list[Fold]]) -> list[str]:
    seeds = [seed for name, seed in parts if name == "probe" and ("default", seed) in parts]
    if not seeds:
        return []
    lines = [
        "## Each fold against its own probe, macro-F1 %",
        "",
        "| seed | fold | probe | default | gain, points |",
        "| --- | --- | --- | --- | --- |",
    ]
    gaps = []
    for seed in seeds:
        for fold, (before, after) in enumerate(zip(parts["probe", seed], parts["default", seed], strict=True)):
            one, other = (100 * macro_f1(each.labels, each.logits.argmax(axis=1)) for each in (before, after))
            gaps.append(other - one)
            lines.append(f"| {seed} | {fold} | {one:.2f} | {other:.2f} | {other - one:+.2f} |")
        pooled = gain(pool(parts["probe", seed]), pool(parts["default", seed]), seed)
        value, low, high = (100 * each for each in (pooled.value, pooled.low, pooled.high))
        lines.append(f"| {seed} | all | | | {value:+.2f} ({low:+.2f} to {high:+.2f}) |")
    said = f"mean {np.mean(gaps):+.2f}, least {min(gaps):+.2f}"
    good = np.mean(gaps) >= 0 and min(gaps) >= LOSS_LIMIT
    return [*lines, "", f"Aim: mean not below 0, no fold under {LOSS_LIMIT:g}: {_verdict(good)} ({said}).", ""]


def _artifacts_section(runs: list[Run]) -> list[str]:
    """Each artifact on the folds that have it, beside Keras on the same folds."""
    lines = [
        "## Artifacts of the default recipe, seed 0",
        "",
        "| model | folds | images | accuracy % (95 %) | macro-F1 % (95 %) | to Keras, points (95 %) | same class % "
        f"| ECE % | aims: drop, ECE under {ECE_AIM:g} |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in ARTIFACTS:
        has = [run for run in runs if name in run.artifacts()]
        if has:
            lines.append(_artifact_row(name, has))
    refused = [f"- {run.dir.name}: {line}" for run in runs for line in _refused(run)]
    return [*lines, *(["", "Refused by the conversion's gate:", "", *refused] if refused else []), ""]


def _artifact_row(name: str, runs: list[Run]) -> str:
    keras, own = (pool([answered(run, each) for run in runs]) for each in ("keras", name))
    change, limit = gain(keras, own, 0), LIMITS[name.rpartition("-")[2]]
    value, low, high = (100 * each for each in (change.value, change.low, change.high))
    cells = [name, str(len(runs)), scores(own, 0), f"{value:+.2f} ({low:+.2f} to {high:+.2f})"]
    cells += [f"{100 * np.mean(own.said == keras.said):.2f}", f"{100 * own.ece:.2f}"]
    verdicts = f"-{limit:g}: {_verdict(value >= -limit)}; {_verdict(100 * own.ece < ECE_AIM)}"
    return f"| {' | '.join([*cells, verdicts])} |"


def _verdict(met: bool) -> str:
    return "met" if met else "missed"


def _refused(run: Run) -> list[str]:
    path = run.dir / "refused.txt"
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def kept_epoch(run: Run) -> int:
    """The epoch whose weights the run kept."""
    import json

    return int(json.loads((run.dir / "metrics.json").read_text(encoding="utf-8"))["epoch"])


def main() -> None:
    """Do one stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=["train", "convert", "table"])
    parser.add_argument("--fold", type=int, choices=range(FOLDS), help="this fold only")
    parser.add_argument("--seed", type=int, choices=SEEDS, help="this seed only")
    parser.add_argument("--recipe", choices=RECIPES, help="this recipe only")
    parser.add_argument("--write", action="store_true", help="write results.md")
    parser.add_argument("--out", type=Path, default=Path("runs/xsdd"), help="folder of the runs (default runs/xsdd)")
    given = parser.parse_args()
    chosen = range(FOLDS) if given.fold is None else [given.fold]
    if given.stage == "train":
        dataset = open_dataset(DATA)
        for seed in SEEDS if given.seed is None else [given.seed]:
            for name in RECIPES if given.recipe is None else [given.recipe]:
                for fold in chosen:
                    result = train_fold(dataset, fold, seed, name, where(given.out, name, seed, fold))
                    score = result.metrics.macro_f1
                    print(f"{name}, seed {seed}, fold {fold}: epoch {result.epoch}, validation macro-F1 {score:.4f}")
    elif given.stage == "convert":
        for fold in chosen:
            convert(open_run(where(given.out, "default", 0, fold)))
    else:
        text = report(given.out)
        print(text)
        if given.write:
            write_whole(HERE / "results.md", text)


if __name__ == "__main__":
    main()
