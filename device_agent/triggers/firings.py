"""Parts in their order: numbered where they are seen, kept until they are asked for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue

from device_agent.triggers import Fired, Options

MOST_WAITING = 1024


class Firings:
    """What every trigger does once it has seen a part; itself the trigger that a program or a test fires by hand.

    With over 1024 parts waiting the oldest are forgotten here: whoever follows the numbers sees the gap.
    """

    def __init__(
        self,
        told: Callable[[Fired], None] = lambda _: None,
        options: Options = Options(),  # noqa: B008
        *,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._told, self._clock = told, clock
        self._delay_ns = options.delay_ms * 1_000_000
        self.within_s = options.within_ms / 1000
        self._number = 0
        self._lock = threading.Lock()
        self._waiting: SimpleQueue[Fired] = SimpleQueue()

    def fire(self) -> Fired:
        """A part was seen now; from any thread."""
        with self._lock:
            fired = Fired(self._clock() + self._delay_ns, self._number)
            self._number += 1
            self._told(fired)
            self._waiting.put(fired)
        if self._waiting.qsize() > MOST_WAITING:
            self.wait(0)
        return fired

    def wait(self, timeout_s: float) -> Fired | None:
        """The next part; None when none came within the time."""
        try:
            return self._waiting.get(timeout=timeout_s) if timeout_s > 0 else self._waiting.get_nowait()
        except Empty:
            return None

    def close(self) -> None:
        """Nothing is held."""
