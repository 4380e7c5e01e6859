"""Split files: what is written is what is read, and not after the images changed."""

from __future__ import annotations

import csv
import hashlib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from device_agent.contract.errors import BadInput, NotFound
from toolkit.data.images import Dataset, open_dataset
from toolkit.data.listing import passed_over
from toolkit.data.split_file import (
    choose_split,
    read_split_file,
    split_path,
    without_files,
    write_split_file,
)
from toolkit.data.splits import split

COUNT = 36


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes, parts of two images, one image a day."""
    lines = ["file,class,part,time"]
    (tmp_path / "set").mkdir()
    for place in range(COUNT):
        image = np.random.default_rng(place).integers(0, 256, (8, 8, 3), np.uint8)
        cv2.imwrite(str(tmp_path / "set" / f"{place:02d}.png"), image)
        lines.append(
            f"{place:02d}.png,{'pit' if place // 2 % 3 else 'good'},p{place // 2},2026-01-{1 + place % 28:02d}"
        )
    (tmp_path / "set/manifest.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "set"


def written(folder: Path, **options: object) -> tuple[Dataset, Path]:
    data = open_dataset(folder)
    path = split_path(data)
    write_split_file(data, path, **options)  # type: ignore[arg-type]
    return data, path


def test_what_is_written_is_what_is_read(folder: Path) -> None:
    data, path = written(folder, seed=3)
    assert path == folder / "split.csv"
    assert np.array_equal(read_split_file(path, data), split(data, 3))
    order = np.random.default_rng(0).permutation(COUNT)
    assert np.array_equal(read_split_file(path, data.only(order)), split(data, 3)[order])


def test_the_file_holds_the_digest_of_each_image_and_of_all(folder: Path) -> None:
    data = open_dataset(folder)
    result = write_split_file(data, folder / "split.csv", seed=1)
    head, _, table = (folder / "split.csv").read_text().partition("\n")
    rows = list(csv.DictReader(table.splitlines()))
    assert [row["file"] for row in rows] == data.files and [row["class"] for row in rows] == data.cells()
    assert rows[5]["sha256"] == hashlib.sha256((folder / "05.png").read_bytes()).hexdigest()
    assert result.note.sha256 == hashlib.sha256(table.encode()).hexdigest() and result.note.sha256 in head
    assert (result.note.by, result.note.seed, result.images, result.groups) == ("group", 1, COUNT, 18)
    for row in result.rows:
        assert sum(row.images.values()) == 2 * sum(row.groups.values()) == (data.cells().count(row.name))
    assert passed_over(folder, data.files) == {}, "a split file tells about the images"


def test_a_training_takes_the_split_that_is_named_then_the_one_that_lies_there_then_the_manifests(folder: Path) -> None:
    data = open_dataset(folder)
    sides, said = choose_split(data, 5)
    assert np.array_equal(sides, split(data, 5)) and said == "by seed 5"
    stated = replace(data, splits=split(data, 6))
    assert choose_split(stated, 5)[1] == "by the manifest"
    write_split_file(data, folder / "split.csv", seed=7)
    sides, said = choose_split(stated, 5)
    assert np.array_equal(sides, split(data, 7)) and said == f"by {folder / 'split.csv'}"
    write_split_file(data, folder / "other.csv", seed=8)
    sides, _ = choose_split(data, 5, path=folder / "other.csv")
    assert np.array_equal(sides, split(data, 8))
    with pytest.raises(NotFound, match="no such split file; write one with: lineside data split"):
        choose_split(data, 5, path=folder / "gone.csv")


def test_a_manifest_of_another_name_has_a_split_file_of_its_own(folder: Path) -> None:
    (folder / "manifest.csv").rename(folder / "night.csv")
    assert split_path(open_dataset(folder / "night.csv")) == folder / "night.split.csv"


def test_images_that_changed_are_refused(folder: Path) -> None:
    data, path = written(folder)
    cv2.imwrite(str(folder / "04.png"), np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(BadInput, match=r"1 images were changed since the split, first 04\.png"):
        read_split_file(path, open_dataset(folder))
    with pytest.raises(BadInput, match=r"2 images of the split are gone, first 34\.png"):
        read_split_file(path, data.only(range(34)))
    lines = path.read_text()
    write_split_file(data.only(range(34)), path, force=True)
    with pytest.raises(BadInput, match=r"2 images of .* are not in the split, first 34\.png"):
        read_split_file(path, data)
    assert lines != path.read_text()


def test_an_image_whose_class_is_corrected_keeps_its_place(folder: Path) -> None:
    data, path = written(folder, seed=2)
    before = read_split_file(path, data)
    labels = data.labels.copy()
    labels[10:12] = 1 - labels[10:12]
    assert np.array_equal(read_split_file(path, replace(data, labels=labels)), before)


def test_parts_that_are_found_to_be_one_must_not_be_divided(folder: Path) -> None:
    data, path = written(folder)
    sides = read_split_file(path, data)
    one, other = data.groups[sides == "train"][0], data.groups[sides == "test"][0]
    joined = np.where(data.groups == one, other, data.groups)
    with pytest.raises(BadInput, match=r"is in both .*; the split is that of .*split\.csv: lineside data split"):
        read_split_file(path, replace(data, groups=joined, stated=joined))


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(",train,", ",test,", 1),
        lambda text: text.partition("\n")[2],
        lambda text: "",
        lambda text: text.partition("\n")[0],
        lambda text: text.replace('"schema":"1.0"', '"schema":"2.0"'),
        lambda text: text.replace('"seed":0', '"seed":"x"'),
        lambda text: text.rsplit("\n", 2)[0] + "\n",
        lambda text: text.replace("lineside split", "other split"),
    ],
)
def test_a_split_file_that_was_changed_by_hand_is_refused(folder: Path, change: object) -> None:
    data, path = written(folder)
    path.write_text(change(path.read_text()))  # type: ignore[operator]
    with pytest.raises(BadInput, match="split") as error:
        read_split_file(path, data)
    assert "\n" not in str(error.value)


def test_another_split_is_not_overwritten_and_the_same_one_is_no_error(folder: Path) -> None:
    data, path = written(folder, seed=1)
    text = path.read_bytes()
    write_split_file(data, path, seed=1)
    with pytest.raises(BadInput, match="is there already and differs; --force replaces it"):
        write_split_file(data, path, seed=2)
    assert path.read_bytes() == text
    write_split_file(data, path, seed=2, force=True)
    assert path.read_bytes() != text


def test_folds_take_turns_as_the_test_split(folder: Path) -> None:
    data, path = written(folder, k=4)
    turns = np.array([read_split_file(path, data, fold=fold) for fold in range(4)])
    assert np.array_equal(turns[0], read_split_file(path, data))
    assert ((turns == "test").sum(axis=0) == 1).all() and ((turns == "val").sum(axis=0) == 1).all()
    assert np.array_equal(turns[3] == "val", turns[0] == "test"), "validation is the next fold"
    for sides in turns:
        assert all(len(set(sides[data.groups == group])) == 1 for group in data.groups)
    with pytest.raises(BadInput, match="has folds 0 to 3, got fold 4"):
        read_split_file(path, data, fold=4)
    write_split_file(data, path, force=True)
    with pytest.raises(BadInput, match="has no folds, got fold 0"):
        read_split_file(path, data, fold=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 2}, "folds must be 3 or more"),
        ({"k": 7}, "class 'good' has 6 groups, too few for 7 folds"),
        ({"k": 3, "by": "time"}, "folds are by group"),
    ],
)
def test_folds_that_cannot_be_dealt_are_refused(folder: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        written(folder, **options)
    assert not (folder / "split.csv").exists()


def test_the_manifests_split_is_written_down_as_it_is_unless_another_is_asked_for(folder: Path) -> None:
    data = open_dataset(folder)
    stated = replace(data, splits=split(data, 9))
    assert write_split_file(stated, folder / "a.csv", seed=1).note.by == "manifest"
    assert np.array_equal(read_split_file(folder / "a.csv", data), split(data, 9))
    for options in ({"k": 3}, {"by": "time"}):
        with pytest.raises(BadInput, match="has a column split; --anew draws another"):
            write_split_file(stated, folder / "b.csv", **options)  # type: ignore[arg-type]
    assert write_split_file(stated, folder / "b.csv", seed=1, anew=True).note.by == "group"
    assert np.array_equal(read_split_file(folder / "b.csv", data), split(data, 1))


def test_a_split_by_time_is_written_with_its_periods(folder: Path) -> None:
    data = open_dataset(folder)
    data = replace(data, columns={"shot": [f"2026-01-01T00:{place:02d}:00Z" for place in range(COUNT)]})
    result = write_split_file(data, folder / "split.csv", by="time", column="shot", shares=(0.5, 0.25, 0.25))
    sides = read_split_file(folder / "split.csv", data)
    assert sides.tolist() == ["train"] * 18 + ["val"] * 8 + ["test"] * 10
    assert [period.last for period in result.periods] == [f"2026-01-01T00:{place}:00" for place in (17, 25, 35)]


def test_images_that_are_taken_out_leave_the_others_where_they_were(folder: Path) -> None:
    data, path = written(folder, k=4)
    before = {fold: read_split_file(path, data, fold=fold) for fold in range(4)}
    path.write_text(without_files(path, {"00.png", "01.png"}))
    for fold, sides in before.items():
        assert np.array_equal(read_split_file(path, data.only(range(2, COUNT)), fold=fold), sides[2:])


def test_many_groups_are_dealt_in_equal_shares_of_each_class(monkeypatch: pytest.MonkeyPatch) -> None:
    from toolkit.data import splits

    rng = np.random.default_rng(0)
    labels = rng.choice(4, 3000, p=[0.9, 0.05, 0.03, 0.02])
    groups = np.array([f"{label}-{place // 3}" for place, label in enumerate(labels)])
    mixed = np.where(rng.random(3000) < 0.05, "0-5", groups)
    monkeypatch.setattr(splits, "_MANY", 10)
    for given in (groups, mixed):
        fold = splits.folds(labels, given, 5, 3)
        assert all(len(set(fold[given == group])) == 1 for group in np.unique(given)[:200])
        assert not np.array_equal(fold, splits.folds(labels, given, 5, 4))
    counts = np.array([np.bincount(labels[splits.folds(labels, groups, 5, 3) == place]) for place in range(5)])
    assert (np.abs(counts / counts.mean(axis=0) - 1) < 0.12).all()
