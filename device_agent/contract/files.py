"""Files that are there wholly or not at all."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from device_agent.contract.errors import NotWritable

_MANY = 1000  # files of one folder: above, one flush of all file systems is faster than one a file


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, for a file or a folder, that takes its place when the block ends well.

    What was written is synced first. On any error, Ctrl-C included, the temporary path is removed and `path` stays as
    it was; what a killed process leaves, `sweep` clears.

    Raises:
        NotWritable: the disk is full, read-only or forbids it; the sentence names the file that the system named.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if temporary.is_dir():
            _swap(temporary, path)
        else:
            _sync(temporary)
            temporary.replace(path)
        _sync(path.parent)
    except OSError as error:
        _remove(temporary)
        if isinstance(error, NotWritable):
            raise
        named = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else path
        where = path if temporary in (named, *named.parents) else named
        raise NotWritable(f"{where}: cannot be written: {(error.strerror or str(error)).lower()}") from error
    except BaseException:
        _remove(temporary)
        raise


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file wholly or not at all; a file that was there before is replaced in one step.

    Raises:
        NotWritable: the disk is full, read-only or forbids it.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def sweep(folder: Path, *names: str) -> None:
    """Clear what killed processes left half-written in `folder`, of the given `names` or of all; what they had moved
    aside goes back where its place is empty. To be called by the only process that writes there. What cannot be
    removed stays.
    """
    for path in folder.glob(".*.part*"):
        left = re.fullmatch(r"\.(.+)\.[0-9a-z_]{8}\.part(\.old)?", path.name)
        if left is None or (names and left[1] not in names):
            continue
        if left[2] and not (folder / left[1]).exists():
            with suppress(OSError):
                path.rename(folder / left[1])
        else:
            _remove(path)


def _swap(folder: Path, path: Path) -> None:
    """Put a folder where another may be; the other is moved aside first, so that it is never half gone."""
    written = [*folder.rglob("*"), folder]
    if len(written) > _MANY:
        os.sync()
    else:
        for each in written:
            _sync(each)
    aside = path.with_name(f"{folder.name}.old")
    if path.exists():
        path.rename(aside)
    try:
        folder.rename(path)
    except BaseException:
        if aside.exists() and not path.exists():
            aside.rename(path)
        raise
    _remove(aside)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)
