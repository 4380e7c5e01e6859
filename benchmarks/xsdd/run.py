"""How well the product's recipe does on X-SDD, by Keras and through every artifact; see README.md.

python benchmarks/xsdd/run.py train [--recipe NAME] [--fold K]   a run for each fold, which is its test split
python benchmarks/xsdd/run.py convert [--fold K]                 their artifacts
python benchmarks/xsdd/run.py final                              train and convert on the manifest's own split
python benchmarks/xsdd/run.py table [--test] [--write]           pooled figures; with --write also to results.md

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
from numpy.typing import NDArray
from pooled import HEAD, Answers, pool, row

from converters.artifact import file_sha256
from device_agent.contract.errors import NotFound
from device_agent.contract.files import write_whole
from toolkit.artifacts import open_artifact
from toolkit.conversion import convert_run
from toolkit.data.images import Dataset, open_dataset
from toolkit.data.splits import folds
from toolkit.evaluation.scores import infer
from toolkit.models.networks import Architecture, predict
from toolkit.runs import Run, open_run
from toolkit.training.bar import TrainingBar
from toolkit.training.recipe import Recipe, make_recipe
from toolkit.training.trainer import TrainingResult, train

HERE = Path(__file__).parent
DATA = Path(os.environ.get("LINESIDE_DATA", "../shared/data")) / "xsdd"
WEIGHTS = Path(os.environ.get("LINESIDE_WEIGHTS", "../shared/weights"))
BACKBONE = "keras/mobilenet_v2_1.0_224_tf2ptq_dequant_no_top.h5"
ARTIFACTS = ("litert-fp32", "onnx-fp32", "openvino-fp16", "litert-int8", "onnx-int8", "openvino-int8")
RECIPES: dict[str, int | None] = {"default": None, "fine-tuned": 4}  # epochs after the probe
CHOSEN = "default"
FOLDS, INNER_FOLDS, SEED = 5, 7, 0
Logits = NDArray[np.float32]


def recipe(name: str, weights: Path) -> Recipe:
    """What `lineside train --width 1.0 --size 128 --weights WEIGHTS` does, or with `--epochs 4` (fine-tuned)."""
    return make_recipe(Architecture(alpha=1.0, size=128), weights=str(weights), epochs=RECIPES[name], seed=SEED)


def fold_split(dataset: Dataset, fold: int) -> NDArray[np.str_]:
    """Fold `fold` of the images outside the manifest's test split is "test" here, one seventh of the others "val".

    The manifest's own test images are "out": in no split at all. No group is on two sides.
    """
    if dataset.splits is None:
        raise NotFound(f"{dataset.dir}: its manifest has no column split")
    out = np.full(len(dataset), "out", dtype="<U5")
    free = np.flatnonzero(dataset.splits != "test")
    side = folds(dataset.labels[free], dataset.groups[free], FOLDS, SEED)
    rest = free[side != fold]
    inner = folds(dataset.labels[rest], dataset.groups[rest], INNER_FOLDS, SEED)
    out[free[side == fold]], out[rest[inner == 0]], out[rest[inner != 0]] = "test", "val", "train"
    return out


def train_fold(dataset: Dataset, fold: int, name: str, out: Path, weights: Path = WEIGHTS / BACKBONE) -> TrainingResult:
    """The run in `out`, trained by recipe `name` on all folds but `fold`."""
    with TrainingBar() as bar:
        return train(dataset, fold_split(dataset, fold), out, recipe(name, weights), weights=str(weights), watch=bar)


def convert(run: Run) -> None:
    """All six artifacts of a run, through the product's own gate; what the gate refused is kept in refused.txt."""
    made = convert_run(run, ARTIFACTS, progress=lambda name: print(f"{run.dir}: {name}", file=sys.stderr))
    refused = [f"{each.reason}\n" for each in made if each.outcome == "failed"]
    write_whole(run.dir / "refused.txt", "".join(refused))
    print(f"{run.dir}: {', '.join(f'{each.name} {each.outcome}' for each in made)}")


def answers(run: Run) -> Answers:
    """Keras' and each artifact's classes for the images of the run's test split; each model is asked once."""
    rows, dataset = run.rows("test"), run.dataset()
    names = [name for name in ARTIFACTS if name in run.artifacts()]
    logits = {"keras": _kept(run, "keras", file_sha256(run.model_path))}
    logits |= {name: _kept(run, name, open_artifact(run, name).sha256) for name in names}
    said = {name: each.argmax(axis=1) for name, each in logits.items()}
    return Answers(dataset.labels[rows], dataset.groups[rows], said)


def _kept(run: Run, name: str, digest: str) -> Logits:
    """Logits (n, classes) of the test images by the model of that digest, from the run's folder if they are there."""
    path = run.dir / "answers" / f"{name}-{digest[:16]}.npy"
    if not path.exists():
        logits = _ask(run, name)
        path.parent.mkdir(exist_ok=True)
        with path.with_suffix(".part").open("wb") as file:
            np.save(file, logits)
        path.with_suffix(".part").replace(path)
    return np.asarray(np.load(path), np.float32)


def _ask(run: Run, name: str) -> Logits:
    images, _ = run.images("test")
    if name == "keras":
        return predict(run.model(), images, run.record.input)
    runtime = open_artifact(run, name).open(run.record.input, threads=1)
    try:
        return infer(runtime, images)
    finally:
        runtime.close()


def report(out: Path, *, test: bool) -> str:
    """results.md: the folds by each recipe that was run, and with `test` the manifest's test split."""
    chosen = [open_run(out / CHOSEN / f"fold-{fold}") for fold in range(FOLDS)]
    lines = _preamble(chosen[0])
    for name in RECIPES:
        done = [fold for fold in range(FOLDS) if (out / name / f"fold-{fold}" / "metrics.json").exists()]
        runs = [open_run(out / name / f"fold-{fold}") for fold in done]
        if runs:
            title = f"Group-wise folds {', '.join(map(str, done))} of 0 to {FOLDS - 1}, pooled; recipe: {name}"
            lines += _section(title + " (the one that is kept)" * (name == CHOSEN), runs, [chosen[at] for at in done])
    if test:
        lines += _section("The manifest's test split, scored once, with the final recipe", [open_run(out / "final")])
    return "\n".join(lines) + "\n"


def _preamble(run: Run) -> list[str]:
    packages = ", ".join(f"{name} {version}" for name, version in run.record.packages.items())
    return [
        "# X-SDD: measured",
        "",
        f"Machine: {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, shared with other "
        f"work; {packages}. Date: {time.strftime('%Y-%m-%d')}.",
        f"Seeds: folds, validation, training and bootstrap {SEED}. Images, classes and groups: sha256 "
        f"{run.record.data_sha256[:16]}. Backbone: {BACKBONE}.",
        "",
        "Intervals are 95 %, over groups; differences are paired, in points of macro-F1, on the same "
        "images. Artifacts are run by the device's own runtimes, one thread.",
        "",
    ]


def _section(title: str, runs: list[Run], chosen: list[Run] | None = None) -> list[str]:
    """A table; under that of another recipe also what the kept one does on the same folds, by Keras."""
    given, parts = runs[0].record.recipe, [answers(run) for run in runs]
    shown = ("family", "alpha", "size", "epochs", "batch", "lr", "decay", "smoothing", "seed")
    lines = [f"## {title}", "", *HEAD]
    lines += [row(name, *pool(parts, name), seed=SEED) for name in ("keras", *ARTIFACTS) if name in _any(parts)]
    if chosen and chosen[0].dir != runs[0].dir:
        lines.append(row("keras, the kept recipe", *pool([answers(run) for run in chosen], "keras"), seed=SEED))
    kept = ", ".join(str(train_epoch(run)) for run in runs)
    lines += ["", f"Recipe: {', '.join(f'{name} {given[name]}' for name in shown)}."]
    lines += [f"Epoch kept, chosen on validation (0 is the probe): {kept}."]
    refused = [f"- {run.dir.name}: {line}" for run in runs for line in _refused(run)]
    return [*lines, *(["", "Refused by the conversion's gate:", *refused] if refused else []), ""]


def _any(parts: list[Answers]) -> set[str]:
    return {name for part in parts for name in part.said}


def _refused(run: Run) -> list[str]:
    path = run.dir / "refused.txt"
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def train_epoch(run: Run) -> int:
    """The epoch whose weights the run kept."""
    import json

    return int(json.loads((run.dir / "metrics.json").read_text(encoding="utf-8"))["epoch"])


def main() -> None:
    """Do one stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=["train", "convert", "final", "table"])
    parser.add_argument("--fold", type=int, choices=range(FOLDS), help="this fold only")
    parser.add_argument("--recipe", choices=RECIPES, default=CHOSEN, help=f"default {CHOSEN}")
    parser.add_argument("--test", action="store_true", help="also score the manifest's test split")
    parser.add_argument("--write", action="store_true", help="write results.md")
    parser.add_argument("--out", type=Path, default=Path("runs/xsdd"), help="folder of the runs (default runs/xsdd)")
    given = parser.parse_args()
    chosen = range(FOLDS) if given.fold is None else [given.fold]
    print(f"seed {SEED}, {FOLDS} folds, backbone {BACKBONE}", file=sys.stderr)
    if given.stage == "train":
        dataset = open_dataset(DATA)
        for fold in chosen:
            result = train_fold(dataset, fold, given.recipe, given.out / given.recipe / f"fold-{fold}")
            print(f"fold {fold}: epoch {result.epoch}, validation macro-F1 {result.metrics.macro_f1:.4f}")
    elif given.stage == "convert":
        for fold in chosen:
            convert(open_run(given.out / given.recipe / f"fold-{fold}"))
    elif given.stage == "final":
        finish(given.out / "final")
    else:
        text = report(given.out, test=given.test)
        print(text)
        if given.write:
            write_whole(HERE / "results.md", text)


def finish(out: Path) -> None:
    """The final recipe on the manifest's own split, and its artifacts; nothing of the test split is read."""
    dataset, weights = open_dataset(DATA), WEIGHTS / BACKBONE
    if dataset.splits is None:
        raise NotFound(f"{dataset.dir}: its manifest has no column split")
    with TrainingBar() as bar:
        train(dataset, dataset.splits, out, recipe(CHOSEN, weights), weights=str(weights), watch=bar)
    convert(open_run(out))


if __name__ == "__main__":
    main()
