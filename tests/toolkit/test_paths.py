"""What the system refuses is one line; a folder is one process's own; leftovers go and nothing else does."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from device_agent.contract.errors import BadInput, NotFound, NotWritable
from toolkit.paths import locked, reading, remove, writing


def test_errors_of_the_system_are_one_line_and_ours_pass() -> None:
    denied = PermissionError(errno.EACCES, "Permission denied", "/x")
    with pytest.raises(BadInput, match=r"^/run: cannot be read: permission denied$"), reading(Path("/run")):
        raise denied
    with pytest.raises(NotWritable, match=r"^/run: cannot be written: permission denied$"), writing(Path("/run")):
        raise denied
    with pytest.raises(NotFound, match="mine"), reading(Path("/run")), writing(Path("/run")):
        raise NotFound("mine")


def test_what_cannot_be_removed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr("toolkit.paths.shutil.rmtree", refuse)
    with pytest.raises(NotWritable, match="read-only file system"):
        remove(tmp_path)


def test_a_link_to_a_folder_is_removed_and_the_folder_is_not(tmp_path: Path) -> None:
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far")
    remove(tmp_path / "link")
    remove(tmp_path / "never there")
    assert [path.name for path in tmp_path.iterdir()] == ["far"] and (tmp_path / "far" / "away").is_dir()


def test_a_locked_folder_is_refused_to_the_next_and_free_afterwards(tmp_path: Path) -> None:
    with locked(tmp_path, "busy"):
        with pytest.raises(BadInput, match=r"^busy$"), locked(tmp_path, "busy"):
            pass
        assert list(tmp_path.iterdir()) == []
    with locked(tmp_path, "busy"):
        pass
    assert tmp_path.exists()


def test_a_folder_that_was_made_to_be_locked_goes_if_nothing_came_into_it(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), locked(tmp_path / "new", "busy"):
        raise KeyboardInterrupt
    assert not (tmp_path / "new").exists()
    with locked(tmp_path / "new", "busy"):
        (tmp_path / "new" / "file").touch()
    assert (tmp_path / "new" / "file").exists()


def test_a_file_system_without_locks_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(handle: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("toolkit.paths.fcntl.flock", flock)
    with locked(tmp_path, "busy"):
        pass
