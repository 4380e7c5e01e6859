"""Files and folders that are there wholly or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from device_agent.contract.errors import NotWritable
from device_agent.contract.files import replacing, write_whole


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
