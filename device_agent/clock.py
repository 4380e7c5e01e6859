"""The wall clock, which a file may set wrong: rehearsals of a clock that jumps need no other machine's time.

Only what people read and what the monitor repairs goes by it; every time-out of the agent is on the monotonic clock.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

OFFSET_FILE = "LINESIDE_CLOCK_OFFSET"
"""Environment variable: a file with the seconds, of either sign, by which the wall clock is to be off."""


def wall_s() -> float:
    """Seconds since 1970 on the wall clock, at least 0.

    >>> abs(wall_s() - time.time()) < 60
    True
    """
    return max(0.0, time.time() + offset_s(os.environ.get(OFFSET_FILE)))


def offset_s(file: str | None) -> float:
    """What the file says; 0 without a file, or where it holds no number.

    >>> offset_s(None)
    0.0
    """
    if not file:
        return 0.0
    try:
        offset = float(Path(file).read_text())
    except (OSError, ValueError):
        return 0.0
    return offset if abs(offset) < 1e10 else 0.0
