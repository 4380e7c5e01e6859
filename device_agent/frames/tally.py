"""An account of every frame that a source handed over, in a file that outlives both processes: for proofs that none is
counted twice or lost unsaid."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import NamedTuple

from device_agent.contract.errors import NotWritable
from device_agent.frames import Frame

_RECORD = struct.Struct("<QQ")


class Handed(NamedTuple):
    """A frame's stamp, and when it was captured on the monotonic clock in ns."""

    stamp: int
    captured_ns: int


class Tally:
    """Appends a record of 16 bytes for each frame to the file at `path`, in one write each.

    Raises:
        NotWritable: the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise _failed(path, error) from error

    def add(self, frame: Frame) -> None:
        """Write a frame down, before anybody else sees it.

        Raises:
            NotWritable: the disk is full or failing.
        """
        try:
            os.write(self._file, _RECORD.pack(frame.stamp, frame.captured_ns))
        except OSError as error:
            raise _failed(self._path, error) from error


def read_tally(content: bytes) -> list[Handed]:
    """The frames of a file; a record that a crash cut short is no frame.

    >>> read_tally(_RECORD.pack(0, 70) + _RECORD.pack(1, 95) + b"cut")
    [Handed(stamp=0, captured_ns=70), Handed(stamp=1, captured_ns=95)]
    """
    whole = len(content) // _RECORD.size * _RECORD.size
    return [Handed(*record) for record in _RECORD.iter_unpack(content[:whole])]


def _failed(path: Path, error: OSError) -> NotWritable:
    return NotWritable(f"source: ledger {path}: cannot be written: {(error.strerror or str(error)).lower()}")
