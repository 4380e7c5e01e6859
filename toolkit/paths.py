"""What a path refuses, in one line in place of a traceback."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from device_agent.contract.errors import BadInput, LinesideError, NotWritable


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """The block looks at `path`.

    Raises:
        BadInput: the system refuses: no permission, a name too long.
    """
    try:
        yield
    except LinesideError:
        raise
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {_reason(error)}") from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """The block makes, changes or removes `path`.

    Raises:
        NotWritable: the disk is full, read-only or forbids it.
    """
    try:
        yield
    except LinesideError:
        raise
    except OSError as error:
        raise NotWritable(f"{path}: cannot be written: {_reason(error)}") from error


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there.

    Raises:
        NotWritable: the disk is read-only or forbids it.
    """
    with writing(path):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


@contextmanager
def locked(folder: Path, busy: str) -> Iterator[None]:
    """The block has the folder, which is made if need be, to itself; one that was made and is still empty at the end is
    removed. Nothing is left in it: the folder itself is locked, and a file system without locks is taken as it is.

    Raises:
        BadInput: another process has it; the sentence is `busy`.
        NotWritable: it cannot be made.
    """
    with writing(folder):
        made = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _lock(handle, busy)
        yield
    finally:
        os.close(handle)
        if made:
            with suppress(OSError):
                folder.rmdir()


def _lock(handle: int, busy: str) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise BadInput(busy) from None
    except OSError as error:
        if error.errno not in (errno.EBADF, errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            raise
