"""Pictures in a file are those in memory; the file has no name, and a disk that is full leaves nothing."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from device_agent.contract.errors import BadInput, NotWritable
from device_agent.contract.manifest import InputSpec
from toolkit.data import pictures
from toolkit.data.images import Dataset, load, open_dataset
from toolkit.data.pictures import Pictures, open_pictures

SPEC = InputSpec(height=12, width=9)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    cv2 = pytest.importorskip("cv2")
    folder, rng = tmp_path_factory.mktemp("set"), np.random.default_rng(0)
    for name in ("a", "b"):
        (folder / name).mkdir()
        for number in range(15):
            cv2.imwrite(str(folder / name / f"{number}.png"), rng.integers(0, 256, (20, 15, 3), np.uint8))
    return open_dataset(folder)


def _both(data: Dataset, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Pictures, np.ndarray]:
    monkeypatch.setattr(pictures, "AT_ONCE", 7)
    rows = np.arange(len(data))[::-1]
    return open_pictures(data, SPEC, rows, folder=folder, in_memory_bytes=0), load(data, SPEC, rows)


def test_a_file_gives_what_memory_gives(data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, wanted = _both(data, tmp_path, monkeypatch)
    with found:
        assert found.shape == wanted.shape == (30, 12, 9, 3) and len(found) == 30
        for rows in (np.array([29, 0, 7, 7]), np.array([-1, -30]), np.array([], int)):
            assert np.array_equal(found[rows], wanted[rows])
        for part in (slice(3, 20), slice(25, 99), slice(None), slice(9, 2), slice(0, 30, 4), slice(None, None, -1)):
            assert np.array_equal(found[part], wanted[part])
        with pytest.raises(IndexError):
            found[np.array([30])]


def test_the_file_has_no_name_and_is_closed(data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = _both(data, tmp_path, monkeypatch)
    assert not list(tmp_path.iterdir())
    found.close()
    with pytest.raises(ValueError, match="closed"):
        found[np.array([0])]


def test_few_pictures_need_no_file(data: Dataset, tmp_path: Path) -> None:
    found = open_pictures(data, SPEC, [4, 2], folder=tmp_path / "nowhere")
    assert np.array_equal(found[np.array([1])], load(data, SPEC, [2]))


def test_progress_reaches_the_end(data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "AT_ONCE", 7)
    seen: list[tuple[int, int]] = []
    rows = np.arange(len(data))
    open_pictures(
        data, SPEC, rows, folder=tmp_path, in_memory_bytes=0, progress=lambda done, total: seen.append((done, total))
    ).close()
    assert seen == [(7, 30), (14, 30), (21, 30), (28, 30), (30, 30)]


def test_a_full_disk_is_one_line(data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int, content: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(NotWritable, match="cannot be written: no space left on device"):
        open_pictures(data, SPEC, np.arange(len(data)), folder=tmp_path, in_memory_bytes=0)
    assert not list(tmp_path.iterdir())


def test_a_damaged_picture_is_named(data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    shutil.copytree(data.dir, tmp_path / "set")
    copy = open_dataset(tmp_path / "set")
    (tmp_path / "set" / copy.files[20]).write_bytes(b"no picture")
    monkeypatch.setattr(pictures, "AT_ONCE", 7)
    with pytest.raises(BadInput, match=copy.files[20]):
        open_pictures(copy, SPEC, np.arange(len(copy)), folder=tmp_path, in_memory_bytes=0)
