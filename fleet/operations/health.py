"""Is the worker alive, and is it of use? What an orchestrator asks before it restarts or routes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import msgspec

TURN_S = 60.0
"""The longest that a turn may take before the worker counts as hung: a store that waits for its lock has 10 s."""


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """`alive`: the loop turns. `ready`: it also has its broker and its store. `why` says what is wrong."""

    alive: bool
    ready: bool
    why: str = ""


class Pulse:
    """The worker's loop leaves word here; `health` may be asked from any thread."""

    def __init__(self, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._monotonic_s, self._lock = monotonic_s, threading.Lock()
        self._at_s, self._connected, self._failing = monotonic_s(), False, False

    def turned(self, *, connected: bool, failing: bool) -> None:
        """The loop has turned."""
        with self._lock:
            self._at_s, self._connected, self._failing = self._monotonic_s(), connected, failing

    def health(self) -> Health:
        """As of now."""
        with self._lock:
            age_s, connected, failing = self._monotonic_s() - self._at_s, self._connected, self._failing
        if age_s > TURN_S:
            return Health(alive=False, ready=False, why=f"no turn of the loop for {age_s:.0f} s")
        why = "the store cannot be written" if failing else "" if connected else "the broker is not connected"
        return Health(alive=True, ready=not why, why=why)
