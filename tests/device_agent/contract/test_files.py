"""Files and folders that are there wholly or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from device_agent.contract.errors import NotWritable
from device_agent.contract.files import replacing, sweep, write_whole


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_takes_the_place_of_another_and_nothing_else_is_left(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "old").write_text("old")
    with replacing(target) as temporary:
        temporary.mkdir()
        (temporary / "new").write_text("new")
    assert names(tmp_path) == ["out"] and names(target) == ["new"]


def test_a_folder_that_cannot_be_moved_in_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "old").write_text("old")
    rename = Path.rename

    def fail_for_the_new(self: Path, to: Path) -> Path:
        if self.name.endswith(".part"):
            raise KeyboardInterrupt
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", fail_for_the_new)
    with pytest.raises(KeyboardInterrupt), replacing(target) as temporary:
        temporary.mkdir()
    assert names(tmp_path) == ["out"] and names(target) == ["old"]


def test_a_file_stays_as_it_was_when_the_block_fails(tmp_path: Path) -> None:
    target = tmp_path / "out"
    write_whole(target, "old")
    with pytest.raises(RuntimeError), replacing(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert names(tmp_path) == ["out"] and target.read_text() == "old"


def test_a_path_below_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotWritable, match="cannot be written"):
        write_whole(tmp_path / "file" / "out", "text")


def test_what_a_killed_process_left_is_swept_and_what_it_moved_aside_goes_back(tmp_path: Path) -> None:
    for name in (".half.0a1b2c3d.part", ".whole.0a1b2c3d.part.old", "whole", ".gone.0a1b2c3d.part.old", ".hidden"):
        (tmp_path / name).mkdir()
    (tmp_path / ".gone.0a1b2c3d.part.old" / "old").write_text("old")
    (tmp_path / ".file.0a1b2c3d.part").write_text("half")
    sweep(tmp_path)
    assert names(tmp_path) == [".hidden", "gone", "whole"] and names(tmp_path / "gone") == ["old"]


def test_only_leftovers_of_the_very_name_are_swept(tmp_path: Path) -> None:
    made = [".run[1].0123abcd.part", ".run[1].0123abcd.part.old", ".run1.0123abcd.part", ".run[1].part", "run[1]"]
    for name in made:
        (tmp_path / name).mkdir()
    sweep(tmp_path, "run[1]")
    assert names(tmp_path) == sorted(made[2:])


def test_a_folder_killed_between_its_two_renames_is_the_one_before_after_a_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "old").write_text("old")
    rename = Path.rename

    def die_for_the_new(self: Path, to: Path) -> Path:
        if self.name.endswith(".part"):
            shutil.copytree(tmp_path, tmp_path.with_name("killed"))
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", die_for_the_new)
    with replacing(target) as temporary:
        temporary.mkdir()
    killed = tmp_path.with_name("killed")
    assert len(names(killed)) == 2 and "out" not in names(killed)
    sweep(killed)
    assert names(killed) == ["out"] and names(killed / "out") == ["old"]


def test_every_file_of_a_folder_is_synced_before_it_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def note(handle: int) -> None:
        synced.append(Path(f"/proc/self/fd/{handle}").readlink().name)
        fsync(handle)

    def check(self: Path, to: Path) -> Path:
        assert {"deep", "file"} <= set(synced)
        return rename(self, to)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(Path, "rename", check)
    with replacing(tmp_path / "out") as temporary:
        (temporary / "deep").mkdir(parents=True)
        (temporary / "deep" / "file").write_text("content")


def test_the_path_that_the_system_named_is_blamed(tmp_path: Path) -> None:
    with (
        pytest.raises(NotWritable, match=r"^/elsewhere/full: cannot be written: no space"),
        replacing(tmp_path / "out"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device", "/elsewhere/full")
    with pytest.raises(NotWritable, match=r"/out: cannot be written"), replacing(tmp_path / "out") as temporary:
        (temporary / "in" / "it").write_text("")


def test_a_folder_of_many_files_is_flushed_at_once_before_it_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    rename = Path.rename

    def check(self: Path, to: Path) -> Path:
        assert done == ["all"]
        return rename(self, to)

    monkeypatch.setattr("device_agent.contract.files._MANY", 5)
    monkeypatch.setattr(os, "sync", lambda: done.append("all"))
    monkeypatch.setattr(Path, "rename", check)
    with replacing(tmp_path / "out") as temporary:
        temporary.mkdir()
        for place in range(5):
            (temporary / str(place)).write_text("content")
    assert len(names(tmp_path / "out")) == 5
