"""What the agent tells a person: one line on stderr for each event, plain or JSON."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import TextIO

import msgspec


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

    def log(kind: str, text: str) -> None:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(wall()))
        line = " ".join(text.split())
        line = msgspec.json.encode(Line(stamp, kind, line)).decode() if as_json else f"{stamp} {kind}: {line}"
        with lock:
            out.write(line + "\n")
            out.flush()

    return log
