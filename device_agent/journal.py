"""What the agent tells a person: one line on stderr for each event, plain or JSON, with a priority for journald."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import TextIO

import msgspec

WARNING, INFO = "<4>", "<6>"
_CALM = frozenset(
    {
        "serving", "no_broker", "broker_connected", "camera_found", "spool_writable", "spool_merged", "preview",
        "config_applied", "ready", "shadow",
    }
)  # fmt: skip
"""Events that ask nothing of anybody; every other one is a warning."""


class Line(msgspec.Struct, frozen=True):
    """One event as a JSON line; `time` is UTC."""

    time: str
    event: str
    text: str


def open_journal(
    *, as_json: bool, stream: TextIO | None = None, wall: Callable[[], float] = time.time
) -> Callable[[str, str], None]:
    """A function log(kind, text) that writes whole lines from any thread.

    >>> open_journal(as_json=False, stream=sys.stdout, wall=lambda: 0.0)("camera_lost", "camera: silent for 5 s")
    1970-01-01T00:00:00Z camera_lost: camera: silent for 5 s
    """
    out, lock = stream or sys.stderr, threading.Lock()
    journald = _is_journal(out)

    def log(kind: str, text: str) -> None:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(wall()))
        line = " ".join(text.split())
        line = msgspec.json.encode(Line(stamp, kind, line)).decode() if as_json else f"{stamp} {kind}: {line}"
        if journald:
            line = f"{INFO if kind in _CALM else WARNING}{line}"
        with lock:
            out.write(line + "\n")
            out.flush()

    return log


def _is_journal(stream: TextIO) -> bool:
    """Does the stream end in systemd's journal? It says so by device and inode in JOURNAL_STREAM."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return (device, inode) == (str(found.st_dev), str(found.st_ino))
