"""Files whose names came from outside."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from device_agent.contract.bundle import read_bundle
from device_agent.contract.errors import BadInput, NotFound
from device_agent.contract.reading import read_plain


def test_a_plain_file_within_its_limit(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    assert read_plain(tmp_path / "a", 5) == b"12345"
    with pytest.raises(OSError, match="Larger than 4 bytes"):
        read_plain(tmp_path / "a", 4)


def test_what_is_no_plain_file_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, said in ((tmp_path / "pipe", "plain file"), (Path("/dev/zero"), "plain file"), (tmp_path, "directory")):
        with pytest.raises(OSError, match=said):
            read_plain(path, 100)
    with pytest.raises(OSError, match="null"):
        read_plain(Path("a\0b"), 100)


def test_pictures_and_bundles_are_read_that_way(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(NotFound, match="not a plain file"):
        read_bundle(Path("/dev/zero"))
    pytest.importorskip("cv2", reason="package: opencv-python-headless not installed")
    from device_agent.frames.picture import read_picture

    for path in (tmp_path / "pipe.png", Path("a\0b.png")):
        with pytest.raises(BadInput, match=r"cannot be read: (not a plain file|embedded null byte)"):
            read_picture(path)
