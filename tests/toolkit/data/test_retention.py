"""Purging: what is up goes with its rows everywhere, what is not stays, and a killed purge leaves a set that opens."""

from __future__ import annotations

import csv
import errno
import json
import os
from datetime import date
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from device_agent.contract.errors import BadInput, NotFound, NotWritable
from toolkit.data import retention
from toolkit.data.images import open_dataset
from toolkit.data.retention import purge
from toolkit.data.split_file import read_split_file, write_split_file

TODAY = date(2026, 11, 22)
COUNT = 24


def write_set(folder: Path, expires: list[str], header: str = "file,class,part,expires,note") -> Path:
    lines = [header]
    for place, day in enumerate(expires):
        image = np.random.default_rng(place).integers(0, 256, (8, 8, 3), np.uint8)
        kind = "pit" if place % 2 else "good"
        (folder / kind).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / kind / f"{place}.png"), image)
        lines.append(f'{kind}/{place}.png,{kind},p{place},{day},"a, b"')
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images 0 to 3 are up on the day, image 4 the day after, the others never; with a split and annotations."""
    days = ["2026-11-21", "2025-01-01", "2026-11-21T23:59:59", "20261121", "2026-11-22", *[""] * (COUNT - 5)]
    folder = write_set(tmp_path / "set", days)
    data = open_dataset(folder)
    write_split_file(data, folder / "split.csv")
    rows = [f"{file},{who},{kind}" for file, kind in zip(data.files, data.cells(), strict=True) for who in ("x", "y")]
    (folder / "annotations.csv").write_text("\n".join(["file,annotator,label", *rows]) + "\n")
    return folder


DUE = ["good/0.png", "pit/1.png", "good/2.png", "pit/3.png"]


def state(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def check_purged(folder: Path) -> None:
    data = open_dataset(folder)
    assert len(data) == COUNT - 4 and data.columns["note"] == ["a, b"] * (COUNT - 4)
    assert data.columns["expires"] == ["2026-11-22", *[""] * (COUNT - 5)]
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*.png")}
    assert there == set(data.files) and not set(DUE) & there
    assert len(read_split_file(folder / "split.csv", data)) == COUNT - 4
    annotated = {row["file"] for row in csv.DictReader((folder / "annotations.csv").open())}
    assert annotated == set(data.files)
    assert [path.name for path in folder.glob(".*")] == []


def test_images_whose_day_has_passed_go_from_disk_and_every_table(folder: Path) -> None:
    split = {row["file"]: row["split"] for row in _split_rows(folder)}
    result = purge(folder, TODAY)
    assert (result.removed, result.finished, result.kept) == (DUE, [], COUNT - 4)
    check_purged(folder)
    assert all(split[row["file"]] == row["split"] for row in _split_rows(folder)), "the others stay on their side"
    assert purge(folder, TODAY).removed == []


def _split_rows(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "split.csv").read_text().partition("\n")[2].splitlines()))


def test_a_dry_run_says_the_same_and_touches_nothing(folder: Path) -> None:
    before = state(folder)
    result = purge(folder, TODAY, dry_run=True)
    assert result.removed == DUE and result.kept == COUNT - 4 and result.dry_run and state(folder) == before


class Killed(BaseException):
    """Nothing may catch it and clean up."""


def test_killed_at_any_step_the_set_opens_and_the_next_purge_finishes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kills, whole = 0, state(folder)
    while True:
        for name, content in whole.items():
            (folder / name).write_bytes(content)
        left = [kills]

        def step(left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise Killed

        write, unlink = retention.write_whole, Path.unlink

        def stopped_write(path: Path, content: bytes | str) -> None:
            step()
            write(path, content)  # noqa: B023

        def stopped_unlink(path: Path, **options: Any) -> None:
            step()
            unlink(path, **options)  # noqa: B023

        with monkeypatch.context() as patch:
            patch.setattr(retention, "write_whole", stopped_write)
            patch.setattr(Path, "unlink", stopped_unlink)
            try:
                purge(folder, TODAY)
                break
            except Killed:
                kills += 1
        open_dataset(folder)
        result = purge(folder, TODAY)
        assert set(result.removed) | set(result.finished) <= set(DUE)
        check_purged(folder)
    check_purged(folder)
    assert kills >= 9, "a note, three tables, four images and the note again"


def test_what_is_kept_longer_after_a_killed_purge_stays(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = retention.write_whole
    with monkeypatch.context() as patch:

        def only_the_note(path: Path, content: bytes | str) -> None:
            if not path.name.startswith("."):
                raise Killed
            write(path, content)

        patch.setattr(retention, "write_whole", only_the_note)
        with pytest.raises(Killed):
            purge(folder, TODAY)
    manifest = folder / "manifest.csv"
    manifest.write_text(manifest.read_text().replace("2025-01-01", "2030-01-01"))
    assert purge(folder, TODAY).removed == [file for file in DUE if file != "pit/1.png"]
    assert (folder / "pit/1.png").exists() and "pit/1.png" in open_dataset(folder).files


@pytest.mark.parametrize("note", ['["../mine.png"]', '["labels.json"]', '["manifest.csv"]', "{", "[1]"])
def test_a_note_that_no_purge_has_written_removes_nothing(folder: Path, note: str) -> None:
    (folder.parent / "mine.png").write_bytes(b"mine")
    (folder / ".manifest.csv.purge").write_text(note)
    before = state(folder)
    with pytest.raises(BadInput):
        purge(folder, TODAY)
    assert state(folder) == before and (folder.parent / "mine.png").exists()


def test_age_in_days_by_a_column_of_times(tmp_path: Path) -> None:
    times = ["2026-11-12T00:00Z", "2026-11-12T23:59Z", "2026-11-13T00:30+01:00", "2026-11-22T10:00Z", "1700000000"]
    folder = write_set(tmp_path, [*times, "2026-11-20T00:00Z"], "file,class,part,shot,note")
    result = purge(folder, TODAY, days=9, column="shot")
    assert result.removed == ["good/0.png", "pit/1.png", "good/2.png", "good/4.png"]
    assert result.rule == "shot more than 9 days before 2026-11-22"
    assert purge(folder, TODAY, days=9, column="shot", dry_run=True).removed == []


def test_an_image_without_a_time_cannot_be_judged_by_age(tmp_path: Path) -> None:
    folder = write_set(tmp_path, ["2026-01-01", ""], "file,class,part,time,note")
    with pytest.raises(BadInput, match="line 3 has no time; how old the image is"):
        purge(folder, TODAY, days=9)


def test_a_class_that_goes_leaves_labels_json_too(tmp_path: Path) -> None:
    folder = write_set(tmp_path, [*[""] * 6])
    manifest = folder / "manifest.csv"
    manifest.write_text(manifest.read_text().replace("good/4.png,good,p4,", "good/4.png,polished,p4,2020-01-01"))
    (folder / "labels.json").write_text('{"polished": "good", "good": "good"}')
    assert purge(folder, TODAY).classes_gone == ["polished"]
    assert json.loads((folder / "labels.json").read_text()) == {"good": "good"}
    assert open_dataset(folder).names == ["good", "pit"]


def test_parquet_keeps_its_types(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    folder = write_set(tmp_path, [""] * 4)
    (folder / "manifest.csv").unlink()
    columns = {
        "file": ["good/0.png", "pit/1.png", "good/2.png", "pit/3.png"],
        "class": ["good", "pit"] * 2,
        "expires": [None, date(2026, 11, 21), date(2026, 11, 22), None],
    }
    pq.write_table(pa.table(columns), folder / "manifest.parquet")
    assert purge(folder, TODAY).removed == ["pit/1.png"]
    left = pq.read_table(folder / "manifest.parquet")
    assert left.column("expires").to_pylist() == [None, date(2026, 11, 22), None] and len(open_dataset(folder)) == 3


def test_a_link_is_refused_for_its_pixels_would_stay(folder: Path) -> None:
    (folder / "good/0.png").rename(folder.parent / "elsewhere.png")
    (folder / "good/0.png").symlink_to(folder.parent / "elsewhere.png")
    before = state(folder)
    with pytest.raises(BadInput, match=r"good/0\.png: is a link"):
        purge(folder, TODAY)
    assert state(folder) == before


def test_a_folder_that_is_a_link_is_refused_too(folder: Path) -> None:
    (folder / "pit").rename(folder.parent / "pit")
    (folder / "pit").symlink_to(folder.parent / "pit")
    with pytest.raises(BadInput, match=r"pit/1\.png: is a link, or lies in a folder that is one"):
        purge(folder, TODAY)
    assert (folder.parent / "pit/1.png").exists()


def test_a_second_name_of_a_removed_file_is_told(folder: Path) -> None:
    os.link(folder / "good/0.png", folder.parent / "copy.png")
    assert purge(folder, TODAY).linked == ["good/0.png"]


def test_an_image_that_is_gone_already_loses_its_row(folder: Path) -> None:
    (folder / "good/0.png").unlink()
    assert purge(folder, TODAY).removed == DUE
    check_purged(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("2025-01-01", "01.01.2025"), "line 3: expires '01.01.2025' is no time"),
        (("2025-01-01", "2025-01-01T00:00Z"), "they have no common order"),
        (("expires", "until"), "no column 'expires'; it has class, part, until, note"),
        (("good/2.png", "good/0.png"), r"good/0\.png is listed twice"),
        (("good/2.png", "../2.png"), "must be a path within the folder"),
    ],
)
def test_what_cannot_be_judged_removes_nothing(folder: Path, change: tuple[str, str], message: str) -> None:
    manifest = folder / "manifest.csv"
    manifest.write_text(manifest.read_text().replace(*change))
    before = state(folder)
    with pytest.raises(BadInput, match=message) as error:
        purge(folder, TODAY)
    assert state(folder) == before and "\n" not in str(error.value)


def test_a_split_file_that_cannot_be_rewritten_stops_the_purge_before_it_begins(folder: Path) -> None:
    (folder / "split.csv").write_text("changed")
    before = state(folder)
    with pytest.raises(BadInput, match=r"split\.csv: is no split"):
        purge(folder, TODAY)
    assert state(folder) == before


def test_no_manifest_no_purge(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set", [""] * 4)
    (folder / "manifest.csv").unlink()
    with pytest.raises(BadInput, match=r"has no manifest\.csv; the column 'expires'"):
        purge(folder, TODAY)
    with pytest.raises(NotFound):
        purge(tmp_path / "gone", TODAY)


def test_an_image_that_cannot_be_removed_is_removed_by_the_next_purge(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlink = Path.unlink

    def guarded(path: Path, **options: Any) -> None:
        if path.name == "1.png":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        unlink(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", guarded)
        with pytest.raises(NotWritable, match=r"pit/1\.png: cannot be written: permission denied"):
            purge(folder, TODAY)
    assert "pit/1.png" not in open_dataset(folder).files
    assert purge(folder, TODAY).finished == DUE
    check_purged(folder)


def test_annotations_without_a_column_of_files_stop_the_purge_before_it_begins(folder: Path) -> None:
    (folder / "annotations.csv").write_text("image,annotator,label\n")
    before = state(folder)
    with pytest.raises(BadInput, match=r"annotations\.csv: no column file; it has image"):
        purge(folder, TODAY)
    assert state(folder) == before


def test_an_image_that_cannot_be_removed_keeps_no_other(folder: Path) -> None:
    (folder / "good" / "0.png").unlink()
    (folder / "good" / "0.png").mkdir()
    with pytest.raises(NotWritable, match=r"good/0\.png.*; 1 of 4 images are still there"):
        purge(folder, TODAY)
    assert not (folder / "pit" / "1.png").exists() and not (folder / "pit" / "3.png").exists()
    (folder / "good" / "0.png").rmdir()
    assert purge(folder, TODAY).finished
