"""Group-wise folds: what is trained on which images, where its run lies, what it answers to the fold it never saw."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pooled import Fold

from toolkit.data.images import Dataset
from toolkit.data.splits import folds
from toolkit.evaluation.answers import answers_of
from toolkit.models.architecture import Architecture
from toolkit.runs import Run
from toolkit.training.bar import TrainingBar
from toolkit.training.recipe import Recipe, make_recipe
from toolkit.training.results import TrainingResult
from toolkit.training.trainer import train

DATA = Path(os.environ.get("LINESIDE_DATA", "../shared/data")) / "xsdd"
WEIGHTS = Path(os.environ.get("LINESIDE_WEIGHTS", "../shared/weights"))
BACKBONE = "keras/mobilenet_v2_1.0_224_tf2ptq_dequant_no_top.h5"
RECIPES: dict[str, int | None] = {"default": None, "probe": 0}  # epochs after the probe; None: what the product does
FOLDS, INNER_FOLDS, SEEDS = 5, 7, (0, 1, 2)


def recipe(name: str, weights: Path, seed: int) -> Recipe:
    """What `lineside train --width 1.0 --size 128 --weights WEIGHTS` does, or with `--epochs 0` (probe)."""
    return make_recipe(Architecture(alpha=1.0, size=128), weights=str(weights), epochs=RECIPES[name], seed=seed)


def fold_split(dataset: Dataset, fold: int, seed: int) -> NDArray[np.str_]:
    """Fold `fold` is "test", one seventh of the others that has every class "val", the rest "train"; no group is on two
    sides. The manifest's own split takes no part."""
    out = np.full(len(dataset), "train", dtype="<U5")
    side = folds(dataset.labels, dataset.groups, FOLDS, seed)
    rest = np.flatnonzero(side != fold)
    inner = folds(dataset.labels[rest], dataset.groups[rest], INNER_FOLDS, seed)
    classes = len(np.unique(dataset.labels[rest]))
    val = next(part for part in range(INNER_FOLDS) if len(np.unique(dataset.labels[rest[inner == part]])) == classes)
    out[side == fold], out[rest[inner == val]] = "test", "val"
    return out


def train_fold(
    dataset: Dataset, fold: int, seed: int, name: str, out: Path, weights: Path = WEIGHTS / BACKBONE
) -> TrainingResult:
    """The run in `out`, trained by recipe `name` on all folds but `fold`."""
    asked = recipe(name, weights, seed)
    with TrainingBar() as bar:
        return train(dataset, fold_split(dataset, fold, seed), out, asked, weights=str(weights), watch=bar)


def answered(run: Run, name: str) -> Fold:
    """The answers of an artifact, or of "keras", to the fold that its training never saw."""
    val, test = answers_of(run, name, "val"), answers_of(run, name, "test")
    return Fold.of(test.labels, test.groups, test.logits, val.logits, val.labels)


def where(out: Path, name: str, seed: int, fold: int) -> Path:
    """Folder of one run."""
    return out / name / f"seed-{seed}" / f"fold-{fold}"
