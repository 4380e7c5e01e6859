"""The monitor at work: messages into batches, batches into the store, then acks and alerts out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import msgspec
from sqlalchemy import Engine

from device_agent.contract import topics
from device_agent.contract.alert import Alert
from device_agent.contract.codec import SCHEMA, encode
from device_agent.contract.errors import NotWritable
from device_agent.contract.session import Ack
from fleet.alerts import Change, read_alerts
from fleet.heartbeat import Heartbeat, read_heartbeat, write_heartbeat
from fleet.inbox import Batch, Message, apart, read_batch, set_aside
from fleet.ingest import Ingest, Outcome
from fleet.leases import ALL, Fenced
from fleet.link import Link
from fleet.operations.metrics import Turn
from fleet.read_ahead import ReadAhead
from fleet.retention import Limits, retain
from fleet.rollup import roll
from fleet.silences import end_changeovers

BATCH_S = 0.25
TICK_S = 0.5
PARTS = 32
"""Into so many parts a batch is cut that cannot be dealt with."""
HOUSE_S, HOUSE_EVERY_MS = 0.05, 30_000
CLEAR_MS = 86_400_000
STEP_MS = 3_000
LEASE_EVERY_MS = 1_500
TOLD = ("opened", "raised", "explained", "inhibited", "closed")


class Announce(Protocol):
    """Where changes of alerts go for people: one call each."""

    def __call__(self, change: Change) -> None: ...


class Monitor:
    """Turns of the monitor. A batch is taken every `BATCH_S` while messages come, or as soon as the one before is done
    where that takes longer, and every `TICK_S` for requests.

    `tend` is called every turn, for what else has to be kept alive, and `observe` with what the turn did;
    `monotonic_ms` is a clock that nobody sets. `limits`: how long what is kept.
    """

    def __init__(
        self,
        engine: Engine,
        ingest: Ingest,
        link: Link,
        *,
        announce: Announce,
        say: Callable[[str], None],
        clock_ms: Callable[[], int],
        monotonic_ms: Callable[[], float] = lambda: time.monotonic() * 1000,
        tend: Callable[[], None] = lambda: None,
        observe: Callable[[Turn], None] = lambda _turn: None,
        limits: Limits = Limits(),  # noqa: B008
    ) -> None:
        self._engine, self._ingest, self._link = engine, ingest, link
        self._waiting = ReadAhead(link.messages)
        self._announce, self._say, self._clock_ms = announce, say, clock_ms
        self._monotonic_ms, self._tend, self._observe = monotonic_ms, tend, observe
        self._ahead_ms = clock_ms() - monotonic_ms()
        self._connections = self._missed = 0
        self._failing = False
        self._limits, self._house_ms = limits, 0.0
        self._leases, self._lease_ms = ingest.leases, 0.0
        with engine.connect() as tx:
            self._beat = Heartbeat.first(read_heartbeat(tx), clock_ms())

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set; what came until then is stored."""
        self._link.start()
        try:
            began_ms = 0.0
            while not stop.is_set():
                self._link.arrived.wait(TICK_S)
                stop.wait(max(0.0, BATCH_S - (self._monotonic_ms() - began_ms) / 1000))
                began_ms = self._monotonic_ms()
                self.turn()
                self.beat()
            self._link.hear_no_more()
            while self.turn() is not None and self._waiting:
                pass
        finally:
            try:
                self.beat(ended=True)
                with suppress(NotWritable):
                    self._leases.release()
            finally:
                self._link.stop()

    def turn(self) -> Outcome | None:
        """Take what came, store it, answer. None when the store failed: then everything is tried again."""
        self._link.arrived.clear()
        self._link.mend()
        self._tend()
        if self._leases.shared:
            self._keep_leases()
        messages, batch = self._waiting.take()
        if self._clock_was_set():
            messages = [message._replace(received_ms=self._clock_ms()) for message in messages]
            batch = None
        began_ms = self._monotonic_ms()
        try:
            self._greet()
            with self._waiting.reading():
                outcome = self._store(messages, batch)
        except Fenced as error:
            self._say(f"{error}; they send again what was not acknowledged")
            self._waiting.put_back(messages, batch)
            self._keep_leases(anew=True)
            return None
        except NotWritable as error:
            self._waiting.put_back(messages, batch)
            if not self._failing:
                self._say(f"{error}; nothing is acknowledged, trying again")
            self._failing = True
            self._tell_turn(Outcome(), messages, began_ms)
            return None
        if self._waiting:
            self._link.arrived.set()
        if self._failing:
            self._say("the store can be written again")
        self._failing = False
        self._tell_turn(outcome, messages, began_ms)
        self._tell_missed()
        self._keep_house()
        return outcome

    def _keep_leases(self, *, anew: bool = False) -> None:
        """Take and give shards; with another set everything is read again, and others are subscribed to."""
        now_ms = self._monotonic_ms()
        if now_ms < self._lease_ms and not anew:
            return
        before = self._ingest.marks.held
        with suppress(NotWritable):
            held = self._leases.acquire()
            self._lease_ms = now_ms + LEASE_EVERY_MS
            if held != before or anew:
                self._ingest.load()
                self._link.serve(held)
                self._say(f"serving {say_shards(held)}{', leading' if self._leases.leads else ''}")

    def _keep_house(self) -> None:
        """Sum hours and remove what is over its time, a little each turn; one worker does it for all."""
        now_ms = self._monotonic_ms()
        if now_ms < self._house_ms or not self._leases.leads:
            return
        with suppress(NotWritable), self._engine.begin() as tx:
            more = roll(tx, self._clock_ms(), spend_s=HOUSE_S)
            gone = retain(tx, self._clock_ms(), self._limits, spend_s=HOUSE_S)
            self._house_ms = now_ms if more or gone else now_ms + HOUSE_EVERY_MS

    def _tell_turn(self, outcome: Outcome, messages: list[Message], began_ms: float) -> None:
        lag_ms = self._clock_ms() - messages[0].received_ms if messages else 0
        self._observe(
            Turn(
                stored=outcome.stored,
                repeated=outcome.repeated,
                rejected=outcome.rejected,
                acks=len(outcome.acks),
                changes=tuple((one.what, one.alert.severity) for one in outcome.changes if one.what in TOLD),
                lag_s=max(0.0, lag_ms / 1000),
                spent_s=(self._monotonic_ms() - began_ms) / 1000,
                waiting=len(self._waiting),
                connected=self._link.connected,
                failing=self._failing,
                shards=len(self._leases.held),
            )
        )

    def _tell_missed(self) -> None:
        if self._link.missed > self._missed:
            missed, self._missed = self._link.missed - self._missed, self._link.missed
            self._say(f"{missed} messages came while too many waited and were left out; devices send reports again")

    def _clock_was_set(self) -> bool:
        """Whether the wall clock made a step: then messages came now, and all that was learnt by the clock is void."""
        now_ms = self._clock_ms()
        ahead_ms = now_ms - self._monotonic_ms()
        step_ms, self._ahead_ms = ahead_ms - self._ahead_ms, ahead_ms
        if abs(step_ms) < STEP_MS:
            return False
        self._say(f"the clock of this machine was set by {step_ms / 1000:+.0f} s; times of devices are learnt anew")
        self._ingest.ledger.forget_clocks()
        return True

    def _greet(self) -> None:
        """After a connect: what is open is retained on the broker, what was closed while nobody listened is not."""
        connections = self._link.connections
        if connections != self._connections and self._leases.leads:
            with self._engine.connect() as tx:
                for alert in read_alerts(tx, closed=True, since_ms=self._clock_ms() - CLEAR_MS):
                    self._retain(alert, gone=alert.closed_ms is not None or bool(alert.inhibited_by))
            self._connections = connections

    def _store(self, messages: list[Message], batch: Batch | None = None) -> Outcome:
        """Store and answer the messages, or the `batch` that they are. One that nothing foresaw is set aside alone, so
        that it does not stop the fleet: what came with it is stored in ever smaller parts, as each failure has
        everything read from the store again."""
        try:
            batch = read_batch(messages) if batch is None else batch
            return self._process(batch)
        except (NotWritable, Fenced):
            raise
        except Exception as error:
            parted = apart(messages) if len(messages) == 1 else messages
            if not parted:
                raise
            if len(parted) == 1:
                return self._set_aside(parted[0], error)
        outcome, size = Outcome(), -(-len(parted) // PARTS)
        for start in range(0, len(parted), size):
            outcome.add(self._store(parted[start : start + size]))
        return outcome

    def _set_aside(self, message: Message, error: Exception) -> Outcome:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        self._say(f"{message.topic}: a message that cannot be dealt with is set aside: {reason}")
        return self._process(set_aside(message, reason))

    def _process(self, batch: Batch) -> Outcome:
        """Store it, and answer at once: what comes after it may fail."""
        outcome = self._ingest.process(batch, self._clock_ms(), hearing=self._link.connected)
        self._answer(outcome)
        return outcome

    def beat(self, *, ended: bool = False) -> None:
        """Leave word in the store of whether the broker and the store answer; a store that does not is no error."""
        beat = self._beat.next(self._clock_ms(), connected=self._link.connected, failing=self._failing, ended=ended)
        if beat is not self._beat and self._leases.leads:
            with suppress(NotWritable), self._engine.begin() as tx:
                write_heartbeat(tx, beat)
                end_changeovers(tx, self._clock_ms())
            self._beat = beat

    def _answer(self, outcome: Outcome) -> None:
        self._link.acknowledge(
            [(device, encode(Ack(SCHEMA, epoch, sequence))) for device, epoch, sequence in outcome.acks]
        )
        for change in outcome.changes:
            self._tell(change)
        if outcome.rejected:
            self._say(f"{outcome.rejected} messages could not be read, see `lineside-fleet quarantine`")

    def _tell(self, change: Change) -> None:
        if change.what in TOLD:
            self._announce(change)
        gone = change.alert.closed_ms is not None or bool(change.alert.inhibited_by)
        if change.what in TOLD:
            self._retain(change.alert, gone=gone)

    def _retain(self, alert: Alert, *, gone: bool) -> None:
        self._link.retain(topics.alert(alert.site, alert.id), b"" if gone else msgspec.json.encode(alert))


def say_shards(held: frozenset[int]) -> str:
    """Shards in few words.

    >>> say_shards(frozenset({0, 1, 2, 5}))
    'shards 0-2, 5'
    """
    if held == ALL:
        return "all shards"
    runs: list[list[int]] = []
    for shard in sorted(held):
        if runs and runs[-1][-1] == shard - 1:
            runs[-1][1:] = [shard]
        else:
            runs.append([shard])
    return f"shards {', '.join('-'.join(map(str, run)) for run in runs)}" if held else "no shards"
