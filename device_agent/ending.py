"""Why the last run ended, in the words of whoever supervises the agent: a process that is killed cannot say it itself.

A supervisor leaves a line in the file `ended` of the state folder, as a systemd unit does with

    ExecStopPost=/bin/sh -c 'test "$SERVICE_RESULT" = success || echo "$SERVICE_RESULT" > /var/lib/lineside/ended'
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

NAME = "ended"
_MOST = 100


def take_cause(state: Path) -> str:
    """What the supervisor wrote, for example "oom-kill", in printable characters; empty if nothing. Said once: the file
    is removed."""
    path, words = state / NAME, ""
    with suppress(OSError):
        with path.open(errors="replace") as file:
            words = file.read(_MOST)
        path.unlink()
    return "".join(c for c in words if c.isprintable()).strip()
