"""Answers for the line on a pipe. Whoever reads them may stop or go: the agent serves on."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from queue import Empty, Full, Queue

import msgspec

from device_agent.contract.review import Verdict

MOST_WAITING = 4096


class Printer:
    """Writes verdicts as JSON lines to a file descriptor, from a thread of its own.

    With `most` lines waiting further ones are dropped, with one event, until the reader takes lines again; when it has
    gone, an event says so and nothing more is written.
    """

    def __init__(self, descriptor: int, event: Callable[[str, str], None], *, most: int = MOST_WAITING) -> None:
        self._descriptor, self._event = descriptor, event
        self._waiting: Queue[bytes | None] = Queue(most)
        self._dropping = self._gone = False
        self._thread = threading.Thread(target=self._run, name="verdicts", daemon=True)
        self._thread.start()

    def put(self, verdict: Verdict) -> None:
        """Hand over a verdict; returns at once."""
        if self._gone or self._dropping:
            return
        try:
            self._waiting.put_nowait(msgspec.json.encode(verdict) + b"\n")
        except Full:
            self._dropping = True
            self._event("verdicts_dropped", f"their reader does not keep up, {self._waiting.maxsize} wait")

    def _run(self) -> None:
        ended = False
        try:
            while not ended:
                lines = self._wait()
                ended = None in lines
                self._write(b"".join(filter(None, lines)))
                self._dropping = False
        except OSError as error:
            self._gone = True
            self._event("verdicts_ended", f"no further ones are written: {(error.strerror or str(error)).lower()}")

    def _write(self, text: bytes) -> None:
        left = memoryview(text)
        while left:
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:  # whoever shares the descriptor made it non-blocking
                select.select([], [self._descriptor], [])

    def _wait(self) -> list[bytes | None]:
        lines = [self._waiting.get()]
        try:
            while True:
                lines.append(self._waiting.get_nowait())
        except Empty:
            return lines

    def close(self, timeout_s: float = 2.0) -> None:
        """Write what waits, as far as the reader takes it within the time."""
        try:
            self._waiting.put(None, timeout=timeout_s)
        except Full:  # nobody reads
            return
        self._thread.join(timeout_s)
