"""Verdicts to a receiver that may be slow or away, from a thread of their own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Protocol

from device_agent.contract.review import Verdict
from device_agent.outputs import NotTaken
from device_agent.outputs.tally import Tally

MOST_WAITING = 256


class Transport(Protocol):
    """What carries one verdict; used by one thread only. `name` is fit for an event: it shows no secret."""

    name: str

    def send(self, verdict: Verdict) -> None:
        """Deliver it, or raise NotTaken; returns within a few seconds."""
        ...

    def close(self) -> None:
        """Let go, in the safe state; called again, and while `send` hangs, where that does not return in time."""
        ...


class Sender:
    """A LineOutput over a transport.

    With `most` verdicts waiting the oldest is dropped, because its part has gone by. What is lost is counted, and said
    by `verdicts_lost` at once and then at most every minute. Nothing is sent twice or kept for later.
    """

    def __init__(self, transport: Transport, event: Callable[[str, str], None], *, most: int = MOST_WAITING) -> None:
        self._transport, self._most = transport, most
        self._waiting: SimpleQueue[Verdict | None] = SimpleQueue()
        self._lost = Tally("verdicts_lost", event)
        self._closed, self._end_s = False, float("inf")
        self._thread = threading.Thread(target=self._run, name=f"to {transport.name}", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> int:
        """Verdicts that were not delivered so far."""
        return self._lost.total

    def put(self, verdict: Verdict) -> None:
        """Hand over a verdict; returns at once."""
        if self._closed:
            return
        self._waiting.put(verdict)
        if self._waiting.qsize() > self._most:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        try:
            oldest = self._waiting.get_nowait()
        except Empty:  # it has just been taken
            return
        if oldest is None:
            self._waiting.put(None)
        else:
            self._lost.count(f"{self._transport.name}: does not keep up, {self._most} wait")

    def _run(self) -> None:
        try:
            while (verdict := self._waiting.get()) is not None:
                if time.monotonic() < self._end_s:
                    self._send(verdict)
                else:
                    self._lost.count(f"{self._transport.name}: not taken before the end")
        finally:
            self._transport.close()
            self._lost.say()

    def _send(self, verdict: Verdict) -> None:
        try:
            self._transport.send(verdict)
        except NotTaken as error:
            self._lost.count(f"{self._transport.name}: {error}")
        else:
            self._lost.tick()

    def blind(self) -> None:
        """Nothing is seen for now: where the output holds a state, it is the safe one."""
        transport = self._transport
        if hasattr(transport, "blind"):
            transport.blind()

    def close(self, timeout_s: float) -> None:
        """Deliver what waits, as far as it is taken within the time."""
        if not self._closed:
            self._closed, self._end_s = True, time.monotonic() + timeout_s
            self._waiting.put(None)
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            self._transport.close()
