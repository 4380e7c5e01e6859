"""Reading a file whose name came from outside: never a pipe or device that blocks, never more than it may have."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def read_plain(path: Path, most: int) -> bytes:
    """Content of a plain file of at most `most` bytes.

    Raises:
        OSError: it cannot be read, is no plain file, or is larger.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError as error:  # a name with a NUL
        raise OSError(errno.EINVAL, str(error)) from error
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "Is a directory" if stat.S_ISDIR(found.st_mode) else "Not a plain file")
        if found.st_size > most:
            raise OSError(errno.EFBIG, f"Larger than {most} bytes")
        return file.read(found.st_size)
