"""Whether the recipe of X-SDD holds, unchanged, on other data: panels photographed several times, 30:1 by parts.

python benchmarks/unseen/run.py draw                                     the data set, once
python benchmarks/unseen/run.py train [--recipe NAME] [--seed S] [--fold K]   a run for each fold
python benchmarks/unseen/run.py table [--write]                          pooled figures; with --write also to results.md

Images of InfraredSolarModules stand for parts, 300 of the most frequent class down to 10 of the rarest; of each part
there are one to nine photographs, moved, lit and disturbed anew. Folds are by part. Nothing was ever chosen on it: the
recipes are the default of `lineside train`, its probe alone, and `--recipe auto`. What is there is not done again.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1] / "xsdd"))

import folded
from pooled import gain, pool, scores

from device_agent.contract.files import write_whole
from toolkit.data.images import Dataset, open_dataset
from toolkit.models.architecture import Architecture
from toolkit.runs import Run, open_run
from toolkit.training.auto import choose, facts_of
from toolkit.training.bar import TrainingBar
from toolkit.training.recipe import Recipe, make_recipe
from toolkit.training.results import TrainingResult
from toolkit.training.trainer import train

HERE = Path(__file__).parent
WEIGHTS = folded.WEIGHTS / folded.BACKBONE
PARTS = {"No-Anomaly": 300, "Cracking": 60, "Vegetation": 40, "Shadowing": 20, "Hot-Spot": 10}
MOST_PHOTOS, DRAW_SEED = 9, 0
RECIPES = ("probe", "default", "auto")
FOLDS, SEEDS = range(5), (0, 1, 2)


def draw(source: Path, out: Path) -> None:
    """The photographs, a folder a class, and a manifest that says which show one part."""
    rng = np.random.default_rng(DRAW_SEED)
    with np.load(source) as stored:
        images, labels, classes = stored["images"], stored["labels"], stored["classes"].tolist()
    lines = ["file,class,group"]
    for name, parts in PARTS.items():
        (out / name).mkdir(parents=True)
        for row in rng.permutation(np.flatnonzero(labels == classes.index(name)))[:parts]:
            light = rng.normal(0, 15)  # of the part's own station: a group looks alike
            for photo in range(1 + rng.binomial(MOST_PHOTOS - 1, 0.25)):
                file = f"{name}/{row:05d}-{photo}.png"
                cv2.imwrite(str(out / file), photograph(images[row], light, rng))
                lines.append(f"{file},{name},part-{row:05d}")
    write_whole(out / "labels.json", '{"No-Anomaly": "good"}\n')
    write_whole(out / "manifest.csv", "\n".join(lines) + "\n")


def photograph(part: NDArray[np.uint8], light: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """One more photograph of a part (h, w) uint8: moved by up to 2 px, another gain, sensor noise."""
    move = np.float64([[1, 0, rng.uniform(-2, 2)], [0, 1, rng.uniform(-2, 2)]])
    moved = cv2.warpAffine(part, move, part.shape[::-1], borderMode=cv2.BORDER_REPLICATE)
    levels = moved * rng.uniform(0.9, 1.1) + light + rng.normal(0, 4, part.shape)
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


def recipe(name: str, seed: int, dataset: Dataset, rows: NDArray[np.integer]) -> tuple[Recipe, list[str]]:
    """The product's recipe of that name, and the reasons that auto gives."""
    weights = str(WEIGHTS)
    if name != "auto":
        return folded.recipe(name, weights, seed), []
    asked = {"weights": weights, "seed": seed}
    network = Architecture(alpha=1.0, size=128)
    choice = choose(facts_of(dataset, rows, make_recipe(network, **asked)))
    return make_recipe(network, **(choice.overrides | asked)), choice.reasons


def train_fold(dataset: Dataset, out: Path, name: str, seed: int, fold: int) -> TrainingResult:
    """The run of a recipe that never sees the fold."""
    sides = folded.fold_split(dataset, fold, seed)
    chosen, reasons = recipe(name, seed, dataset, np.flatnonzero(sides == "train"))
    folder = folded.where(out, name, seed, fold)
    with TrainingBar() as bar:
        return train(dataset, sides, folder, chosen, weights=str(WEIGHTS), watch=bar, reasons=reasons)


def report(out: Path) -> str:
    """results.md."""
    done = [seed for seed in SEEDS if all(_is_done(out, name, seed) for name in RECIPES)]
    if not done:
        raise SystemExit(f"{out}: no seed has all its folds yet; begin with: {Path(__file__).name} train")
    lines = [*_preamble(open_run(folded.where(out, "auto", done[0], 0)), out), *_head()]
    for seed in done:
        pooled = {name: pool([_answers(out, name, seed, fold) for fold in FOLDS]) for name in RECIPES}
        for name, each in pooled.items():
            found = gain(pooled["probe"], each, seed)
            value, low, high = (100 * part for part in (found.value, found.low, found.high))
            shown = "" if name == "probe" else f"{value:+.2f} ({low:+.2f} to {high:+.2f})"
            lines.append(f"| {name} | {seed} | {scores(each, seed)} | {100 * each.ece:.2f} | {shown} |")
    return "\n".join(lines) + "\n"


def _is_done(out: Path, name: str, seed: int) -> bool:
    return all((folded.where(out, name, seed, fold) / "metrics.json").exists() for fold in FOLDS)


def _answers(out: Path, name: str, seed: int, fold: int):  # type: ignore[no-untyped-def]
    return folded.answered(open_run(folded.where(out, name, seed, fold)), "keras")


def _preamble(run: Run, out: Path) -> list[str]:
    dataset = open_dataset(out / "data")
    packages = ", ".join(f"{name} {version}" for name, version in run.record.packages.items())
    images = np.bincount(dataset.labels)
    counts = ", ".join(f"{name} {images[label]} of {PARTS[name]}" for label, name in enumerate(dataset.names))
    return [
        "# Other data, 30:1, photographs of one part: measured",
        "",
        f"Machine: {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, shared with other "
        f"work; {packages}. Date: {time.strftime('%Y-%m-%d')}. Drawn from InfraredSolarModules with seed {DRAW_SEED}; "
        f"photographs of parts: {counts}. Data: sha256 {run.record.data_sha256[:16]}.",
        "",
        "V2 1.0 @128, Keras, five folds by part, pooled; intervals are 95 %, over parts; the gain over the probe is "
        "paired, in points of macro-F1.",
        "",
        "What auto says:",
        "",
        *(f"- {reason}" for reason in run.record.reasons),
        "",
    ]


def _head() -> list[str]:
    return [
        "| recipe | seed | images | accuracy % (95 %) | macro-F1 % (95 %) | ECE % | gain over its probe |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]


def main() -> None:
    """Do one stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=["draw", "train", "table"])
    parser.add_argument("--recipe", choices=RECIPES, help="this recipe only")
    parser.add_argument("--seed", type=int, choices=SEEDS, help="this seed only")
    parser.add_argument("--fold", type=int, choices=FOLDS, help="this fold only")
    parser.add_argument("--write", action="store_true", help="write results.md")
    parser.add_argument("--out", type=Path, default=Path("runs/unseen"), help="folder of data and runs")
    given = parser.parse_args()
    if given.stage == "draw":
        if not (given.out / "data/manifest.csv").exists():
            draw(folded.DATA.parent / "ism/ism_full.npz", given.out / "data")
    elif given.stage == "table":
        text = report(given.out)
        print(text)
        if given.write:
            write_whole(HERE / "results.md", text)
    else:
        dataset = open_dataset(given.out / "data")
        for seed in SEEDS if given.seed is None else [given.seed]:
            for name in RECIPES if given.recipe is None else [given.recipe]:
                for fold in FOLDS if given.fold is None else [given.fold]:
                    result = train_fold(dataset, given.out, name, seed, fold)
                    score = result.metrics.macro_f1
                    print(f"{name}, seed {seed}, fold {fold}: epoch {result.epoch}, validation macro-F1 {score:.4f}")


if __name__ == "__main__":
    main()
