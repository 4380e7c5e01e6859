"""An account of every frame that a source handed over, in a file that outlives both processes: for proofs that none is
counted twice or lost unsaid."""

from __future__ import annotations

import os
from pathlib import Path

from device_agent.contract.errors import NotWritable
from device_agent.contract.tally import Handed, write_handed
from device_agent.frames import Frame


class Tally:
    """Appends a record for each frame to the file at `path`, in one write each.

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
            os.write(self._file, write_handed(Handed(frame.stamp, frame.captured_ns)))
        except OSError as error:
            raise _failed(self._path, error) from error


def _failed(path: Path, error: OSError) -> NotWritable:
    return NotWritable(f"source: ledger {path}: cannot be written: {(error.strerror or str(error)).lower()}")
