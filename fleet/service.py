"""The monitor at work: messages into batches, batches into the store, then acks and alerts out."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

import msgspec
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from device_agent.contract import topics
from device_agent.contract.alert import Alert
from device_agent.contract.codec import SCHEMA, encode
from device_agent.contract.session import Ack
from fleet.alerts import Change, read_alerts
from fleet.inbox import Message, read_batch
from fleet.ingest import Ingest, Outcome
from fleet.link import Link

BATCH_S = 0.25
TICK_S = 0.5
CLEAR_MS = 86_400_000
TOLD = ("opened", "raised", "inhibited", "closed")


class Announce(Protocol):
    """Where changes of alerts go for people: one call each."""

    def __call__(self, change: Change) -> None: ...


class Monitor:
    """Turns of the monitor. A batch is taken every `BATCH_S` while messages come, and every `TICK_S` for requests."""

    def __init__(
        self,
        engine: Engine,
        ingest: Ingest,
        link: Link,
        *,
        announce: Announce,
        say: Callable[[str], None],
        clock_ms: Callable[[], int],
    ) -> None:
        self._engine, self._ingest, self._link = engine, ingest, link
        self._announce, self._say, self._clock_ms = announce, say, clock_ms
        self._connections = 0
        self._failing = False

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set; what came until then is stored."""
        self._link.start()
        try:
            while not stop.is_set():
                self._link.arrived.wait(TICK_S)
                stop.wait(BATCH_S)
                self.turn()
        finally:
            self.turn()
            self._link.stop()

    def turn(self) -> Outcome | None:
        """Take what came, store it, answer. None when the store failed: then everything is tried again."""
        self._link.arrived.clear()
        self._link.mend()
        if self._link.connections != self._connections:
            self._connections = self._link.connections
            self._retain_open()
        messages = [self._link.messages.popleft() for _ in range(len(self._link.messages))]
        outcome = self._store(messages)
        if outcome is None:
            self._link.messages.extendleft(reversed(messages))
            return None
        for device, epoch, sequence in outcome.acks:
            self._link.acknowledge(device, encode(Ack(SCHEMA, epoch, sequence)))
        for change in outcome.changes:
            self._tell(change)
        if outcome.rejected:
            self._say(f"{outcome.rejected} messages could not be read and are in quarantine")
        return outcome

    def _store(self, messages: list[Message]) -> Outcome | None:
        try:
            outcome = self._ingest.process(read_batch(messages), self._clock_ms())
        except SQLAlchemyError as error:
            if not self._failing:
                cause = getattr(error, "orig", None) or error
                self._say(f"the store cannot be written: {str(cause).lower()}; nothing is acknowledged, trying again")
            self._failing = True
            return None
        if self._failing:
            self._say("the store can be written again")
        self._failing = False
        return outcome

    def _tell(self, change: Change) -> None:
        if change.what in TOLD:
            self._announce(change)
        gone = change.alert.closed_ms is not None or bool(change.alert.inhibited_by)
        if change.what in TOLD:
            self._retain(change.alert, gone=gone)

    def _retain(self, alert: Alert, *, gone: bool) -> None:
        self._link.retain(topics.alert(alert.site, alert.id), b"" if gone else msgspec.json.encode(alert))

    def _retain_open(self) -> None:
        """After a connect: what is open is retained on the broker, what was closed while nobody listened is not."""
        with self._engine.connect() as tx:
            for alert in read_alerts(tx, closed=True, since_ms=self._clock_ms() - CLEAR_MS):
                self._retain(alert, gone=alert.closed_ms is not None or bool(alert.inhibited_by))
