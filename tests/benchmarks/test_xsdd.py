"""The X-SDD benchmark: its folds keep apart what must be apart, its table counts right, and one fold does well."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from toolkit.data.images import open_dataset
from toolkit.evaluation.metrics import macro_f1

BENCHMARK = "xsdd"


@pytest.fixture
def pooled(script: ModuleType) -> ModuleType:
    """benchmarks/xsdd/pooled.py as a module."""
    return sys.modules["pooled"]


@pytest.fixture
def folded(script: ModuleType) -> ModuleType:
    """benchmarks/xsdd/folded.py as a module."""
    return sys.modules["folded"]


def test_each_image_is_tested_once(script: ModuleType, folded: ModuleType, data_dir: Path) -> None:
    dataset = open_dataset(data_dir / "xsdd")
    for seed in script.SEEDS:
        splits = np.array([folded.fold_split(dataset, fold, seed) for fold in range(script.FOLDS)])
        assert ((splits == "test").sum(axis=0) == 1).all()


def test_no_group_is_on_two_sides_and_every_class_on_each(
    script: ModuleType, folded: ModuleType, data_dir: Path
) -> None:
    dataset = open_dataset(data_dir / "xsdd")
    for fold in range(script.FOLDS):
        split = folded.fold_split(dataset, fold, 0)
        sides = [set(dataset.groups[split == name]) for name in ("train", "val", "test")]
        assert sum(map(len, sides)) == len(set.union(*sides)) == len(set(dataset.groups))
        for name in ("train", "val", "test"):
            assert set(dataset.labels[split == name]) == set(range(7))


def test_the_seeds_deal_other_folds(script: ModuleType, folded: ModuleType, data_dir: Path) -> None:
    dataset = open_dataset(data_dir / "xsdd")
    dealt = {folded.fold_split(dataset, 0, seed).tobytes() for seed in script.SEEDS}
    assert len(dealt) == len(script.SEEDS)


def _fold(pooled: ModuleType, said: np.ndarray, labels: np.ndarray, groups: np.ndarray, sharp: float) -> tuple:
    logits = sharp * np.eye(3, dtype=np.float32)[said]
    return pooled.Fold.of(labels, groups, logits, logits, labels)


def test_each_fold_is_judged_at_its_own_temperature(pooled: ModuleType) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 600)
    groups = np.array([f"part-{row // 3}" for row in range(600)])
    said = np.where(rng.random(600) < 0.2, (labels + 1) % 3, labels)
    folds = [
        _fold(pooled, said[half], labels[half], groups[half], sharp)
        for half, sharp in ((slice(300), 2.0), (slice(300, 600), 40.0))
    ]
    both = pooled.pool(folds)
    assert len(both.labels) == 600
    assert both.macro_f1 == macro_f1(labels, said)
    assert both.ece < 0.06
    (low, high), _ = both.intervals(0)
    assert low < 0.8 < high


def test_a_gain_is_paired_and_holds_the_difference(pooled: ModuleType) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    groups = np.array([f"part-{row // 3}" for row in range(300)])
    keras = np.where(rng.random(300) < 0.05, 0, labels)
    said = np.where(rng.random(300) < 0.10, (keras + 1) % 3, keras)
    before, after = (pooled.pool([_fold(pooled, each, labels, groups, 5.0)]) for each in (keras, said))
    found = pooled.gain(before, after, 0)
    assert found.value == pytest.approx(macro_f1(labels, said) - macro_f1(labels, keras))
    assert found.low < found.value < found.high < 0


@pytest.mark.slow
def test_the_probe_of_one_fold_is_right_on_parts_it_never_saw(
    script: ModuleType, folded: ModuleType, data_dir: Path, weights_dir: Path, tmp_path: Path
) -> None:
    dataset = open_dataset(data_dir / "xsdd")
    folded.train_fold(dataset, 0, 0, "probe", tmp_path / "run", weights_dir / folded.BACKBONE)
    fold = folded.answered(script.open_run(tmp_path / "run"), "keras")
    assert len(np.unique(fold.logits.argmax(axis=1))) == 7
    assert macro_f1(fold.labels, fold.logits.argmax(axis=1)) > 0.9
