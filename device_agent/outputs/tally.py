"""A fault that may come with every frame: counted each time, said once in a while."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

EVERY_S = 60.0


class Tally:
    """Counts a fault from any thread. The first is an event of `kind` at once, what follows is said at most every
    `every_s` seconds, with how many there were."""

    def __init__(
        self,
        kind: str,
        event: Callable[[str, str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        every_s: float = EVERY_S,
    ) -> None:
        self._kind, self._event, self._clock, self._every_s = kind, event, clock, every_s
        self._lock = threading.Lock()
        self.total = self._unsaid = 0
        self._text, self._next_s = "", float("-inf")

    def count(self, text: str) -> None:
        """One more; `text` says what happened."""
        with self._lock:
            self.total += 1
            self._unsaid += 1
            self._text = text
        self.tick()

    def tick(self) -> None:
        """Say what was counted since it was said last, if it is time."""
        if self._unsaid and self._clock() >= self._next_s:
            self.say()

    def say(self) -> None:
        """Say now what was not said yet."""
        with self._lock:
            number, text, self._unsaid = self._unsaid, self._text, 0
            self._next_s = self._clock() + self._every_s
        if number:
            self._event(self._kind, text if number == 1 else f"{text}; {number} times since this was last said")
