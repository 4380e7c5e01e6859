"""The thread that sends samples, oldest first. A sample leaves the disk when the monitor has it."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Protocol

from device_agent.contract.codec import SCHEMA
from device_agent.contract.errors import LinesideError
from device_agent.contract.review import Sample
from device_agent.samples.request import Fate, Outcome
from device_agent.samples.seal import read_head
from device_agent.samples.store import Store

RETRY_LOW_S, RETRY_HIGH_S = 1.0, 300.0
IDLE_S = 5.0


class Send(Protocol):
    """One attempt: `request.put` with an address, or a fake."""

    def __call__(self, name: str, content: bytes, stop: threading.Event) -> Outcome:
        """Try to send the sample `name`."""
        ...


class Uploader:
    """Sends what the store holds. `uploaded` hears of each sample that arrived, in this thread.

    A monitor that cannot be reached or has no room is tried again with full jitter, up to 300 s, or after the time that
    it asks for. What it refuses for good is said once, stays on disk until its time to live, and is not sent again
    before a restart.
    """

    def __init__(
        self,
        store: Store,
        send: Send,
        *,
        uploaded: Callable[[Sample], None],
        event: Callable[[str, str], None],
        rng: random.Random,
    ) -> None:
        self._store, self._send, self._uploaded, self._event, self._rng = store, send, uploaded, event, rng
        self._stop, self._fresh = threading.Event(), threading.Event()
        self._refused: set[str] = set()
        self._failures, self._said, self._said_refused = 0, "", ""
        self._thread = threading.Thread(target=self._run, name="samples-upload", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """There is another sample."""
        self._fresh.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            wait_s = self._step()
            if wait_s is None:
                self._fresh.wait(IDLE_S)
                self._fresh.clear()
            else:
                self._stop.wait(wait_s)

    def _step(self) -> float | None:
        """Send one; seconds until the next attempt, None when there is nothing to send."""
        names = self._store.names()
        self._refused.intersection_update(names)
        name = next((each for each in names if each not in self._refused), None)
        if name is None:
            return None
        content = self._store.read(name)
        if content is None:
            return 0.0
        outcome = self._send(name, content, self._stop)
        if outcome.fate is Fate.LATER:
            return self._later(outcome)
        self._found()
        if outcome.fate is Fate.REFUSED:
            self._refuse(name, outcome.why)
        else:
            self._store.remove(name)
            self._tell(name, content)
        return 0.0

    def _later(self, outcome: Outcome) -> float:
        self._failures += 1
        if outcome.why != self._said and not self._stop.is_set():
            self._said = outcome.why
            self._event("samples_not_sent", f"{outcome.why}; they are kept, up to their time to live")
        if outcome.wait_s is not None:
            return outcome.wait_s + self._rng.uniform(0, RETRY_LOW_S)
        limit = min(RETRY_HIGH_S, RETRY_LOW_S * 2 ** min(self._failures, 10))
        return self._rng.uniform(min(RETRY_LOW_S, limit), limit)

    def _found(self) -> None:
        self._failures = 0
        if self._said:
            self._said = ""
            self._event("samples_sent", "samples are sent again")

    def _refuse(self, name: str, why: str) -> None:
        self._refused.add(name)
        if why != self._said_refused:
            self._said_refused = why
            self._event("samples_refused", f"{name[:12]}: {why}; it is kept up to its time to live")

    def _tell(self, name: str, content: bytes) -> None:
        try:
            head = read_head(content)
        except LinesideError:  # of a later version, left by an agent that was rolled back; the monitor has it
            return
        self._uploaded(Sample(SCHEMA, head.model, head.wall_ms, head.cell, bytes.fromhex(name), head.reason))

    def close(self, timeout_s: float = 2.0) -> None:
        """End; a sample that is under way is sent again after the next start."""
        self._stop.set()
        self._fresh.set()
        self._thread.join(timeout_s)
