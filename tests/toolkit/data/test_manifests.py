"""Manifests: parquet as csv, one named by its path, several marks of one image, and what a hostile one may not do."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from device_agent.contract.errors import BadInput
from toolkit.data import decoding, images
from toolkit.data.images import open_dataset, pixel_digests
from toolkit.data.splits import split


def write_image(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.random.default_rng(seed).integers(0, 256, (12, 12, 3), np.uint8))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve images without folders of classes."""
    for place in range(12):
        write_image(tmp_path / "set/images" / f"{place}.png", place)
    return tmp_path / "set"


def table(cells: list[str], header: str = "file,class") -> str:
    return header + "\n" + "".join(f"images/{place}.png,{cell}\n" for place, cell in enumerate(cells))


def test_parquet_and_csv_say_the_same(folder: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    text = "".join(
        f"images/{place}.png,{'good' if place % 2 else 'pit'},{place // 2},north,{place}\n" for place in range(12)
    )
    (folder / "manifest.csv").write_text("file,label,part,site,belt\n" + text)
    from_csv = open_dataset(folder)
    columns = {
        "file": from_csv.files,
        "label": from_csv.cells(),
        "part": [place // 2 for place in range(12)],
        "site": ["north"] * 12,
        "belt": list(range(12)),
    }
    pq.write_table(pa.table(columns), folder / "manifest.parquet")
    with pytest.raises(BadInput, match=r"has manifest\.csv and manifest\.parquet"):
        open_dataset(folder)
    assert open_dataset(folder / "manifest.parquet").source == folder / "manifest.parquet"
    (folder / "manifest.csv").unlink()
    found = open_dataset(folder)
    assert (found.files, found.columns, found.source) == (from_csv.files, from_csv.columns, folder)
    assert np.array_equal(found.labels, from_csv.labels) and found.sha256() == from_csv.sha256()
    assert found.groups.tolist() == from_csv.groups.tolist()


@pytest.mark.parametrize(
    ("cells", "message"),
    [(["pit", None], "row 2 has no class"), (["pit", "good"], "row 2: split must be one of")],
)
def test_an_error_in_parquet_names_its_row(folder: Path, cells: list[str | None], message: str) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {"file": ["images/0.png", "images/1.png"], "class": cells, "split": ["train", None]}
    pq.write_table(pa.table(columns), folder / "manifest.parquet")
    with pytest.raises(BadInput, match=rf"manifest\.parquet: {message}"):
        open_dataset(folder)


def test_a_manifest_of_another_name_is_opened_by_its_path(folder: Path) -> None:
    (folder / "night.csv").write_text(table(["good", "pit", "good", "pit"]))
    found = open_dataset(folder / "night.csv")
    assert found.dir == folder and len(found) == 4 and found.source == folder / "night.csv"
    assert open_dataset(found.source).sha256() == found.sha256()


def test_several_marks_of_one_image(folder: Path) -> None:
    (folder / "manifest.csv").write_text(table(["pit|dent", "", "pit", "pit", "ok", "dent | scratch", "pit"]))
    found = open_dataset(folder)
    assert found.names == ["dent", "ok", "pit", "scratch"] and found.roles == ["defect", "good", "defect", "defect"]
    assert found.marks is not None and found.marks.dtype == np.bool_
    assert found.marks.astype(int).tolist() == [
        [1, 0, 1, 0],
        [0, 0, 0, 0],
        [0, 0, 1, 0],
        [0, 0, 1, 0],
        [0, 0, 0, 0],
        [1, 0, 0, 1],
        [0, 0, 1, 0],
    ]
    assert found.labels.tolist() == [0, 1, 2, 2, 1, 3, 2], "the rarest mark stands for the image"
    assert found.counts().tolist() == [2, 2, 4, 1]
    assert found.cells() == ["dent|pit", "ok", "pit", "pit", "ok", "dent|scratch", "pit"]
    some = found.only([5, 0])
    assert some.marks is not None and np.array_equal(some.marks, found.marks[[5, 0]])


def test_marks_are_part_of_the_digest_and_the_way_of_writing_them_is_not(folder: Path) -> None:
    def digest(cell: str) -> str:
        (folder / "manifest.csv").write_text(table([cell, "", "dent|pit", "pit", "dent"]))
        return open_dataset(folder).sha256()

    assert digest("pit|dent") == digest("dent | pit") != digest("dent")


def test_images_without_a_mark_are_a_class_that_nobody_named(folder: Path) -> None:
    (folder / "manifest.csv").write_text(table(["pit|dent", "", "zinc"]))
    found = open_dataset(folder)
    assert found.names == ["dent", "good", "pit", "zinc"] and found.roles.count("good") == 1
    assert found.labels[1] == 1 and found.marks is not None and not found.marks[:, 1].any()


def test_the_class_of_good_parts_may_be_given(folder: Path) -> None:
    (folder / "manifest.csv").write_text(table(["pit|dent", "polished", "pit"]))
    (folder / "labels.json").write_text('{"polished": "good"}')
    found = open_dataset(folder)
    assert found.names == ["dent", "pit", "polished"] and found.labels.tolist() == [0, 2, 1]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["pit|", ""], "class 'pit|' has a mark that is empty or stands twice"),
        (["pit|pit", ""], "stands twice"),
        (["pit|good", ""], "class 'pit|good' is both good and not"),
        (["pit|dent", "ok", "normal"], "have one class without any, got normal, ok"),
        (["pit|dent", "pit"], "no image without a mark; good parts have an empty class"),
        (["pit|" + "x" * 65, ""], "has 65 characters"),
    ],
)
def test_marks_that_contradict_are_one_clear_line(folder: Path, cells: list[str], message: str) -> None:
    (folder / "manifest.csv").write_text(table(cells))
    with pytest.raises(BadInput) as error:
        open_dataset(folder)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_every_mark_is_on_each_side_of_a_split(folder: Path) -> None:
    (folder / "manifest.csv").write_text(table(["pit|dent", "pit|dent", "pit|dent", "", "", "", "pit", "dent", ""]))
    found = open_dataset(folder)
    sides = split(found, 0)
    for name in ("train", "val", "test"):
        assert found.members()[sides == name].any(axis=0).all()
    lacking = np.array(["train", "train", "train", "train", "val", "test", "val", "test", "test"])
    with pytest.raises(BadInput, match="class 'dent' has no image in the val split"):
        split(replace(found, splits=lacking), 0)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("../outside.png", "must be a path within the folder"),
        ("images/../../outside.png", "must be a path within the folder"),
        ("/etc/passwd", "must be a path within the folder"),
        (".", "must be a path within the folder"),
        ("images", "1 of 2 files do not exist, first images"),
        ("images\\1.png", r"first images\\1.png; paths are written with /"),
        ('"images/1\n.png"', "has a control character in its name"),
        ("images/\x1b[2J1.png", "has a control character in its name"),
        ("images/1.png/x.png", "do not exist"),
    ],
)
def test_a_manifest_reaches_only_plain_files_of_its_folder(folder: Path, file: str, message: str) -> None:
    write_image(folder.parent / "outside.png", 99)
    (folder / "manifest.csv").write_text(f"file,class\nimages/0.png,good\n{file},pit\n")
    with pytest.raises(BadInput) as error:
        open_dataset(folder)
    assert message.replace("\\\\", "\\") in str(error.value) and "\n" not in str(error.value)


def test_one_image_under_two_names_is_one_group(folder: Path) -> None:
    (folder / "images/alias.png").symlink_to("0.png")
    (folder / "manifest.csv").write_text(table(["good", "pit"]) + "images/alias.png,good\n")
    groups = open_dataset(folder).groups.tolist()
    assert groups[0] == groups[2] != groups[1]


def test_links_that_go_round_in_circles_are_one_line(folder: Path) -> None:
    (folder / "images/loop.png").symlink_to("loop.png")
    (folder / "manifest.csv").write_text(table(["good", "pit"]) + "images/loop.png,good\n")
    with pytest.raises(BadInput, match="cannot be read: too many levels of symbolic links"):
        open_dataset(folder)


def test_images_wait_for_a_thread_a_part_at_a_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "manifest.csv").write_text(table(["good", "pit"] * 6))
    found = open_dataset(folder)
    whole = pixel_digests(found)
    calls: list[int] = []
    monkeypatch.setattr(decoding, "_AT_ONCE", 5)
    assert pixel_digests(found, lambda done, total: calls.append(done)) == whole
    assert calls == list(range(1, 13))


def test_a_group_that_is_joined_to_one_after_the_other_is_no_walk_along_all_of_them(folder: Path) -> None:
    (folder / "manifest.csv").write_text(table(["good", "pit"] * 6))
    found, count = open_dataset(folder, join=False), 100_000
    groups = np.array([*(f"g{place}" for place in range(count)), *["x"] * count])
    pixels = [str(place).encode() for place in range(count)] * 2
    chain = images.joined(replace(found.only([0] * (2 * count)), groups=groups), pixels)
    assert set(chain.groups.tolist()) == {f"g{count - 1}"}


def test_the_class_of_images_without_a_mark_may_be_stated_though_no_cell_names_it(folder: Path) -> None:
    (folder / "manifest.csv").write_text(table(["pit|dent", "", "pit"]))
    (folder / "labels.json").write_text('{"good": "good", "pit": "defect"}')
    assert open_dataset(folder).names == ["dent", "good", "pit"]
    (folder / "labels.json").write_text('{"good": "defect"}')
    with pytest.raises(BadInput, match="class 'good' is that of images without a mark; it must be good"):
        open_dataset(folder)


def test_a_pipe_in_place_of_a_manifest_does_not_block(folder: Path) -> None:
    os.mkfifo(folder / "manifest.csv")
    with pytest.raises(BadInput, match=r"manifest\.csv: is no plain file"):
        open_dataset(folder)
