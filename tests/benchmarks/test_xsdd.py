"""The X-SDD benchmark: its folds keep apart what must be apart, its table counts right, and one fold does well."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from toolkit.data.images import open_dataset
from toolkit.evaluation.metrics import macro_f1

FOLDER = Path(__file__).parents[2] / "benchmarks" / "xsdd"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """benchmarks/xsdd/run.py as a module."""
    monkeypatch.syspath_prepend(FOLDER)
    spec = importlib.util.spec_from_file_location("xsdd_run", FOLDER / "run.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def pooled(benchmark: ModuleType) -> ModuleType:
    """benchmarks/xsdd/pooled.py as a module."""
    return sys.modules["pooled"]


def test_each_image_is_tested_once_and_the_held_out_ones_never(benchmark: ModuleType, data_dir: Path) -> None:
    dataset = open_dataset(data_dir / "xsdd")
    splits = np.array([benchmark.fold_split(dataset, fold) for fold in range(benchmark.FOLDS)])
    held_out = dataset.splits == "test"
    assert held_out.any() and (splits[:, held_out] == "out").all()
    assert ((splits == "test").sum(axis=0) == ~held_out).all()


def test_no_group_is_on_two_sides_and_every_class_on_each(benchmark: ModuleType, data_dir: Path) -> None:
    dataset = open_dataset(data_dir / "xsdd")
    for fold in range(benchmark.FOLDS):
        split = benchmark.fold_split(dataset, fold)
        sides = [set(dataset.groups[split == name]) for name in ("train", "val", "test", "out")]
        assert sum(map(len, sides)) == len(set.union(*sides)) == len(set(dataset.groups))
        for name in ("train", "val", "test"):
            assert set(dataset.labels[split == name]) == set(range(7))


def test_an_artifact_is_compared_on_the_folds_that_it_has(pooled: ModuleType) -> None:
    labels, groups = np.array([0, 1, 0, 1]), np.array(["a", "b", "c", "d"])
    whole = pooled.Answers(labels, groups, {"keras": labels, "onnx-int8": 1 - labels})
    part = pooled.Answers(labels, groups, {"keras": 1 - labels})
    assert pooled.pool([whole, part], "keras").folds == 2
    line = pooled.row("onnx-int8", *pooled.pool([whole, part], "onnx-int8"), seed=0)
    assert "| onnx-int8 | 1 | 4 | 0.00" in line and "-100.00" in line and "missed" in line


def test_paired_interval_holds_the_difference(pooled: ModuleType) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    groups = np.array([f"part-{row // 3}" for row in range(300)])
    keras = np.where(rng.random(300) < 0.05, 0, labels)
    said = np.where(rng.random(300) < 0.10, (keras + 1) % 3, keras)
    gap = 100 * (macro_f1(labels, said) - macro_f1(labels, keras))
    low, high = pooled.paired_interval(labels, groups, said, keras, seed=0)
    assert gap < -3
    assert low < gap < high < 0
    assert pooled.paired_interval(labels, groups, keras, keras, seed=0) == (0.0, 0.0)


@pytest.mark.slow
def test_the_probe_of_one_fold_is_right_on_parts_it_never_saw(
    benchmark: ModuleType, data_dir: Path, weights_dir: Path, tmp_path: Path
) -> None:
    dataset = open_dataset(data_dir / "xsdd")
    benchmark.train_fold(dataset, 0, "default", tmp_path / "run", weights_dir / benchmark.BACKBONE)
    answers = benchmark.answers(benchmark.open_run(tmp_path / "run"))
    assert len(np.unique(answers.said["keras"])) == 7
    assert macro_f1(answers.labels, answers.said["keras"]) > 0.9
