"""Comparison of two runs: only images that neither was trained on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from device_agent.contract.errors import BadInput
from device_agent.contract.manifest import Label
from toolkit.evaluation.comparison import Side, compare_answers, compare_models, write_flips
from toolkit.evaluation.figures import Judged
from toolkit.runs import Run, open_run, write_record, write_split


@pytest.fixture
def other(tiny_run: Run, put_artifact: Callable[[Run, str, bytes], None], tmp_path: Path) -> Callable[..., Run]:
    """A second run of the same data, with another split of its groups and a model that never says bright."""

    def make(moved: dict[str, str] | None = None) -> Run:
        shutil.copytree(tiny_run.dir, tmp_path / "other")
        dataset = tiny_run.dataset()
        split = np.full(len(dataset), "train ", dtype="<U5")
        for name in ("train", "val", "test"):
            split[tiny_run.rows(name)] = name
        for group, to in (moved or {}).items():
            split[dataset.groups == group] = to
        write_split(tmp_path / "other" / "split.csv", dataset, split)
        run = open_run(tmp_path / "other")
        onnx = pytest.importorskip("onnx")
        model = onnx.load(tiny_run.artifact_dir("onnx-fp32") / "model.onnx")
        (bias,) = (one for one in model.graph.initializer if one.name == "bias")
        value = onnx.numpy_helper.to_array(bias) - np.array([99, 0, 0], np.float32)
        bias.CopyFrom(onnx.numpy_helper.from_array(value, "bias"))
        put_artifact(run, "onnx-fp32", model.SerializeToString())
        return run

    return make


def test_what_was_broken_is_counted_and_shown(tiny_run: Run, other: Callable[..., Run], tmp_path: Path) -> None:
    found = compare_models(Side(tiny_run, "onnx-fp32"), Side(other(), "onnx-fp32"))
    assert (found.images, found.groups, found.left_out) == (60, 30, (0, 0))
    bright = found.classes[0]
    assert (bright.name, bright.images, bright.fixed) == ("bright", 20, 0) and bright.broken > 10
    assert found.mcnemar.only_a >= bright.broken and found.mcnemar.p_groups < 0.05
    assert found.figures["recall.bright"].b == 0 and found.figures["macro-f1"].high < 0
    assert "A is right more often" in found.verdict
    assert found.flips[0].change == "broken" and found.flips[0].true == found.flips[0].said_a == "bright"
    write_flips(tmp_path / "flips.html", tiny_run.dataset().dir, found)
    assert (tmp_path / "flips.html").read_text().count("<figure>") == len(found.flips)


def test_images_that_either_was_trained_on_are_left_out_and_said(tiny_run: Run, other: Callable[..., Run]) -> None:
    moved = other({"good-0-val": "train", "good-0-train": "val"})
    sides = Side(tiny_run, "onnx-fp32"), Side(moved, "onnx-fp32")
    with pytest.raises(BadInput, match=r"not the same: 60 and 59, of which 58 are in both .*--common"):
        compare_models(*sides)
    found = compare_models(*sides, common=True)
    assert found.images == 58 and found.left_out == (2, 1)
    assert not {"good/1.png", "good/2.png", "good/0.png"} & {one.file for one in found.flips}


def test_another_photograph_of_a_part_that_was_trained_on_is_left_out(tiny_run: Run, other: Callable[..., Run]) -> None:
    run = other()
    lines = (run.dir / "split.csv").read_text().replace("good-0-train", "good-0-val")
    (run.dir / "split.csv").write_text(lines)
    found = compare_models(Side(tiny_run, "onnx-fp32"), Side(open_run(run.dir), "onnx-fp32"), common=True)
    assert found.images == 58


def test_other_classes_are_refused(tiny_run: Run, other: Callable[..., Run]) -> None:
    run = other()
    labels = [Label("rust", "defect"), *tiny_run.labels[1:]]
    write_record(run.dir, msgspec.structs.replace(run.record, labels=labels))
    with pytest.raises(BadInput, match=r"classes bright, dark, good, .* rust, dark, good"):
        compare_models(Side(tiny_run, "onnx-fp32"), Side(open_run(run.dir), "onnx-fp32"))


def test_a_mark_that_is_seen_counts_though_another_of_the_image_is_missed() -> None:
    marks = np.tile([[True, False, True]], (12, 1))
    groups = np.repeat([f"part {n}" for n in range(6)], 2)
    one, both = np.array([-3.0, -9.0, -3.0]), np.array([-3.0, -9.0, 3.0])  # the second sees the pit, not the rust
    sides = [
        Judged(
            logits=np.tile(each, (12, 1)),
            probabilities=np.tile(1 / (1 + np.exp(-each)), (12, 1)),
            labels=np.zeros(12, np.int64),
            groups=groups,
            names=["rust", "good", "pit"],
            roles=["defect", "good", "defect"],
            task="labels",
            marks=marks,
        )
        for each in (one, both)
    ]
    answers: Any = SimpleNamespace(files=[f"{n}.png" for n in range(12)], groups=groups)
    found = compare_answers(answers, *sides, titles=("A", "B"), split="val")
    assert [(each.name, each.fixed, each.broken) for each in found.classes] == [
        ("rust", 0, 0),
        ("good", 0, 0),
        ("pit", 12, 0),
    ]
