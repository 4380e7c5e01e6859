"""A run folder tells what it holds, or says in one sentence why it cannot."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from device_agent.contract.errors import BadInput, NotFound, UnknownSchema
from toolkit.runs import Run, open_run, read_record, write_record


def test_rows_of_the_splits_are_disjoint_and_complete(tiny_run: Run) -> None:
    rows = {name: set(tiny_run.rows(name).tolist()) for name in ("train", "val", "test")}
    assert {name: len(found) for name, found in rows.items()} == {"train": 30, "val": 60, "test": 30}
    assert not rows["train"] & rows["val"] and not rows["val"] & rows["test"]


def test_images_are_those_of_the_rows(tiny_run: Run) -> None:
    images, labels = tiny_run.images("val")
    assert images.shape == (60, 8, 8, 3) and images.dtype == np.uint8
    means = [images[labels == label].mean() for label in range(3)]
    assert means[0] > means[2] > means[1], "bright, dark, good in alphabetical order"


def test_golden_images_show_every_class_and_stay_the_same(tiny_run: Run) -> None:
    golden = tiny_run.golden(6)
    assert golden.shape == (6, 8, 8, 3)
    assert np.array_equal(golden, open_run(tiny_run.dir).golden(6))
    means = golden.reshape(6, -1).mean(axis=1)
    assert np.ptp(means[:3]) > 60, "the first three are of three classes"


def test_artifacts_are_those_with_a_record_and_no_leftovers(tiny_run: Run) -> None:
    (tiny_run.dir / "artifacts" / "openvino-fp16").mkdir()
    shutil.copytree(tiny_run.artifact_dir("onnx-fp32"), tiny_run.artifact_dir(".onnx-fp32.0123abcd.part.old"))
    assert tiny_run.artifacts() == ["onnx-fp32", "onnx-int8"]


def test_record_survives_the_disk(tiny_run: Run) -> None:
    write_record(tiny_run.dir, tiny_run.record)
    assert read_record(tiny_run.dir) == tiny_run.record


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"no run\.json there"):
        open_run(tmp_path / "nowhere")


def test_unfinished_run_is_refused_unless_asked_for(tiny_run: Run) -> None:
    write_record(tiny_run.dir, msgspec.structs.replace(tiny_run.record, status="training"))
    with pytest.raises(BadInput, match="not finished"):
        open_run(tiny_run.dir)
    assert open_run(tiny_run.dir, finished=False).record.status == "training"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": "1.0"}', '{"schema": 1}', '{"schema": "x"}'])
def test_damaged_record(tiny_run: Run, text: str) -> None:
    (tiny_run.dir / "run.json").write_text(text)
    with pytest.raises(BadInput, match=r"run\.json"):
        open_run(tiny_run.dir)


def test_newer_schema_is_named(tiny_run: Run) -> None:
    path = tiny_run.dir / "run.json"
    path.write_text(path.read_text().replace('"schema": "1.0"', '"schema": "2.1"'))
    with pytest.raises(UnknownSchema, match=r"2\.1 .* 1\.x"):
        open_run(tiny_run.dir)


def test_newer_minor_with_an_unknown_field_is_read(tiny_run: Run) -> None:
    path = tiny_run.dir / "run.json"
    text = path.read_text().replace('"schema": "1.0"', '"schema": "1.9",\n  "flavour": "mint"')
    path.write_text(text)
    assert open_run(tiny_run.dir).record.schema == "1.9"


@pytest.fixture
def own_run(tiny_run: Run, tmp_path: Path) -> Run:
    """A run whose images may be changed."""
    shutil.copytree(tiny_run.record.data, tmp_path / "images")
    split_sha256 = hashlib.sha256((tiny_run.dir / "split.csv").read_bytes()).hexdigest()
    record = msgspec.structs.replace(tiny_run.record, data=str(tmp_path / "images"), split_sha256=split_sha256)
    write_record(tiny_run.dir, record)
    return open_run(tiny_run.dir)


def test_images_that_were_moved_together_with_the_run_are_found(own_run: Run, tmp_path: Path) -> None:
    moved = {
        "data": str(tmp_path / "elsewhere" / "images"),
        "data_from_run": os.path.relpath(own_run.data, own_run.dir),
    }
    write_record(own_run.dir, msgspec.structs.replace(own_run.record, **moved))
    assert open_run(own_run.dir).dataset().files == own_run.dataset().files
    shutil.rmtree(tmp_path / "images")
    with pytest.raises(NotFound, match=r"elsewhere/images: the images of the run .* are gone; put them back"):
        open_run(own_run.dir).dataset()


def test_image_gone_since_training(own_run: Run) -> None:
    (Path(own_run.record.data) / "manifest.csv").unlink()
    (Path(own_run.record.data) / "good" / "5.png").unlink()
    with pytest.raises(
        BadInput, match=r"1 images of the run are gone, first good/5\.png; put them back, or train again"
    ):
        own_run.rows("val")


def test_image_changed_since_training(own_run: Run) -> None:
    images = Path(own_run.record.data)
    (images / "good" / "5.png").write_bytes((images / "good" / "6.png").read_bytes())
    with pytest.raises(
        BadInput, match=r"were changed since the training; put them back, or .*lineside train .*--fresh"
    ):
        own_run.images("test")


def test_class_changed_since_training(own_run: Run) -> None:
    manifest = Path(own_run.record.data) / "manifest.csv"
    manifest.write_text(manifest.read_text().replace("good/5.png,good", "good/5.png,dark"))
    with pytest.raises(BadInput, match="were changed since the training"):
        own_run.golden()


def test_split_changed_since_training(own_run: Run) -> None:
    path = own_run.dir / "split.csv"
    path.write_text(path.read_text().replace(",train\n", ",val\n", 1))
    with pytest.raises(BadInput, match=r"split\.csv: was changed since the training"):
        own_run.rows("val")


def test_images_added_since_training_are_left_out(own_run: Run) -> None:
    images = Path(own_run.record.data)
    (images / "good" / "new.png").write_bytes((images / "good" / "6.png").read_bytes())
    with (images / "manifest.csv").open("a") as manifest:
        manifest.write("good/new.png,good,new,val,0,2026-01-01\n")
    assert len(own_run.dataset()) == 120 and "good/new.png" not in own_run.dataset().files
    assert len(own_run.rows("val")) == 60


def test_groups_are_those_of_the_split(own_run: Run) -> None:
    lines = (own_run.dir / "split.csv").read_text().splitlines()
    text = "\n".join([lines[0], *(line.replace("good-0-", "good-joined-") for line in lines[1:])]) + "\n"
    (own_run.dir / "split.csv").write_text(text)
    record = msgspec.structs.replace(own_run.record, split_sha256=hashlib.sha256(text.encode()).hexdigest())
    write_record(own_run.dir, record)
    groups = open_run(own_run.dir).dataset().groups.tolist()
    assert "good-joined-val" in groups and "good-0-val" not in groups


def test_unknown_split(tiny_run: Run) -> None:
    with pytest.raises(BadInput, match="train, val, test"):
        tiny_run.rows("holdout")
