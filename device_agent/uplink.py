"""What is sent when: reports live, what is older in batches, and again whatever the monitor does not acknowledge.

It knows no socket and no thread: `courier` hands it what happened, one thing after the other, and calls `tick`.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, Protocol

import msgspec

from device_agent.config import Timing
from device_agent.contract.codec import SCHEMA, decode, encode
from device_agent.contract.errors import BadInput, NotWritable
from device_agent.contract.report import BACKFILL, DeviceReport, read_report, write_backfill
from device_agent.contract.session import Ack, Birth, Event, State
from device_agent.merging import halve
from device_agent.spool import Damaged, Spool, Stored

BATCH = 60
BATCH_BYTES = 8 << 10
BIRTH_BYTES = 1 << 10
EVENTS_KEPT = 200
UNSAVED_KEPT = 1440
REPORT_EXPIRY_S, EVENT_EXPIRY_S = 3600, 86_400


class Link(Protocol):
    """A connection to the broker, see `mqtt.Link`. `open` returns at once; what comes of it is told to the courier."""

    def open(self, will: bytes) -> None:
        """Begin one attempt to connect."""
        ...

    def give_up(self) -> None:
        """End an attempt that was not answered."""
        ...

    def publish(
        self, kind: str, payload: bytes, *, qos: int, retain: bool = False, expiry_s: int | None = None
    ) -> None:
        """Send on the device's topic of this kind."""
        ...

    def close(self, timeout_s: float) -> None:
        """Send what is still to be sent, within the time, and disconnect."""
        ...


class Clocks(NamedTuple):
    """Seconds on the monotonic clock and on the wall."""

    monotonic: Callable[[], float]
    wall: Callable[[], float]


class Uplink:
    """Delivery of one device. `reopen` gives a sound spool after damage; `log(kind, text)` is what a person reads."""

    def __init__(
        self,
        spool: Spool,
        link: Link | None,
        *,
        timing: Timing,
        clocks: Clocks,
        log: Callable[[str, str], None],
        reopen: Callable[[], Spool],
        rng: random.Random,
        encoding: str = "msgpack",
    ) -> None:
        self._spool, self._link, self._timing, self._clocks = spool, link, timing, clocks
        self._log, self._reopen, self._rng, self._encoding = log, reopen, rng, encoding
        self._birth: Birth | None = None
        self._events: deque[Event] = deque(maxlen=EVENTS_KEPT)
        self._unsaved: deque[DeviceReport] = deque()
        self._full = False
        self.online = False
        self._was_online: bool | None = None
        self._refused = ""
        self._connections, self._failures = 0, 0
        self._retry_at: float | None = clocks.monotonic()
        self._give_up_at = 0.0
        self._sent_id, self._live_id = 0, spool.last_id
        self._progress_at = 0.0

    # What the loop says

    def serves(self, birth: Birth) -> None:
        """Another artifact answers from now on."""
        self._birth = birth
        if self.online:
            self._send_birth()

    def report(self, report: DeviceReport) -> None:
        """Store a report, and send it if the broker is there. A report that cannot be stored is kept in memory."""
        self._unsaved.append(report)
        if len(self._unsaved) > UNSAVED_KEPT:
            self._unsaved = deque(halve(list(self._unsaved)))
        with self._careful():
            self._save()

    @contextmanager
    def _careful(self) -> Iterator[None]:
        """A disk that fails is said, a spool that broke is changed for a sound one; neither stops the agent."""
        try:
            if self._spool.closed:
                self._change_spool()
            yield
        except Damaged:
            self._spool.abandon()
        except (NotWritable, BadInput) as error:
            self._say_full(str(error))

    def _save(self) -> None:
        while self._unsaved:
            stored = self._spool.add(self._unsaved[0])
            self._unsaved.popleft()
            self._say_full("")
            self._send_live(stored)
        saved = self._spool.shrink()
        if saved:
            self.event("spool_merged", f"{saved} rows were saved by merging the oldest reports")

    def _change_spool(self) -> None:
        self._spool = self._reopen()
        self._resend_all()
        if self.online:
            self._send_birth()

    def _say_full(self, why: str) -> None:
        if bool(why) != self._full:
            self._full = bool(why)
            held = len(self._unsaved)
            self.event(*(("spool_unwritable", why[:300]) if why else ("spool_writable", f"{held} reports are left")))

    def event(self, kind: str, text: str) -> None:
        """Log something, and tell the monitor when it can be told."""
        self._log(kind, text)
        self.tell(kind, text)

    def tell(self, kind: str, text: str) -> None:
        """Tell the monitor of something that was logged already."""
        now, wall = self._clocks.monotonic(), self._clocks.wall()
        self._events.append(
            Event(SCHEMA, self._spool.boot, int(now * 1000), max(0, int(wall * 1000)), kind[:32], text[:300])
        )
        self._send_events()

    # What the broker says

    def connected(self) -> None:
        """The broker took the connection."""
        self.online, self._failures, self._retry_at, self._refused = True, 0, None, ""
        self._say_online("")
        self._send("state", encode(State(SCHEMA, self._session, True)), qos=1, retain=True)
        self._send_birth()
        self._send_events()
        self._resend_all()
        self.tick()

    def disconnected(self, why: str, *, refused: bool = False) -> None:
        """The connection ended, or an attempt failed; `refused` by the broker means a longer wait."""
        self.online = False
        self._failures += 3 if refused else 1
        low, high = self._timing.retry_low_s, self._timing.retry_high_s
        limit = min(high, low * 2 ** min(self._failures, 10))
        self._retry_at = self._clocks.monotonic() + self._rng.uniform(min(low, limit), limit)
        if refused:
            self.rejected(why)
        self._say_online(why)

    def _say_online(self, why: str) -> None:
        """One line for each change."""
        if self.online != self._was_online:
            self._was_online = self.online
            if self.online:
                self._log("broker_connected", "reports are sent")
            else:
                self._log("broker_unreachable", f"{why}; reports are kept in the spool")

    def acknowledged(self, payload: bytes) -> None:
        """The monitor has committed reports to its database. What is no acknowledgement changes nothing."""
        gone = 0
        with self._careful():
            try:
                ack = decode(payload, Ack)
                gone = self._spool.acknowledge(ack.epoch, ack.sequence)
            except BadInput as error:
                self.event("ack_refused", str(error))
        if gone:
            self._progress_at = self._clocks.monotonic()
            self.tick()

    def rejected(self, why: str) -> None:
        """The broker did not take a message or a subscription: said once for each reason."""
        if why != self._refused:
            self._refused = why
            kind = "not_authorized" if "authori" in why else "quota_exceeded" if "quota" in why else "refused"
            self.event(kind, why)

    # What time says

    @property
    def _session(self) -> int:
        return self._spool.boot * 65_536 + self._connections % 65_536

    def tick(self) -> None:
        """Do what is due: connect, resend, send the next batch, store what could not be stored."""
        now = self._clocks.monotonic()
        if self._unsaved:
            with self._careful():
                self._save()
        if self.online:
            with self._careful():
                self._send_what_is_due(now)
        elif self._link is not None and self._retry_at is None and now >= self._give_up_at:
            self._link.give_up()
            self.disconnected("the broker does not answer")
        elif self._link is not None and self._retry_at is not None and now >= self._retry_at:
            self._retry_at, self._give_up_at = None, now + self._timing.connect_s
            self._connections += 1
            self._link.open(encode(State(SCHEMA, self._session, False, "lost")))

    def _send_what_is_due(self, now: float) -> None:
        """Batches go one at a time; ids up to `_live_id` are the backlog, of which those up to `_sent_id` were sent."""
        lowest = self._spool.pending(limit=1)
        if not lowest:
            return
        in_flight, backlog = lowest[0].id <= self._sent_id, lowest[0].id <= self._live_id
        patience_s = self._timing.resend_backfill_s if in_flight else self._timing.resend_live_s
        if (in_flight or not backlog) and now - self._progress_at >= patience_s:
            self._resend_all()
            self._send_batch()
        elif backlog and not in_flight:
            self._send_batch()

    def _resend_all(self) -> None:
        """Everything that is not acknowledged is to be sent again, in batches; what comes after is sent live."""
        self._sent_id, self._live_id = 0, self._spool.last_id

    def _send_batch(self) -> None:
        """The next reports of the backlog, as many as fit."""
        batch = self._spool.pending(self._sent_id, up_to=self._live_id, limit=BATCH)
        payload = write_backfill([_marked(one) for one in batch])
        while len(payload) > BATCH_BYTES and len(batch) > 1:
            batch = batch[: len(batch) // 2]
            payload = write_backfill([_marked(one) for one in batch])
        self._progress_at = self._clocks.monotonic()
        self._send("backfill", payload, qos=1)
        self._sent_id = batch[-1].id
        self._spool.published(self._sent_id)

    def _send_live(self, stored: Stored) -> None:
        if not self.online:
            return
        if self._spool.pending(limit=1)[0].id == stored.id:
            self._progress_at = self._clocks.monotonic()
        as_is = self._encoding == "msgpack"
        payload = stored.payload if as_is else encode(read_report(stored.payload), encoding=self._encoding)
        self._send("report", payload, qos=0, expiry_s=REPORT_EXPIRY_S)
        if self._sent_id >= self._live_id:  # with a backlog still to be sent, "published up to here" would be untrue
            self._spool.published(stored.id)

    def _send_birth(self) -> None:
        if self._birth is None:
            return
        birth = msgspec.structs.replace(
            self._birth, epoch=self._spool.epoch, boot=self._spool.boot, encoding=self._encoding
        )
        payload = encode(birth, encoding=self._encoding)
        if len(payload) > BIRTH_BYTES:  # the monitor knows the labels from the bundle
            payload = encode(msgspec.structs.replace(birth, labels=[]), encoding=self._encoding)
        self._send("birth", payload, qos=1, retain=True)

    def _send_events(self) -> None:
        while self.online and self._events:
            payload = encode(self._events.popleft(), encoding=self._encoding)
            self._send("event", payload, qos=1, expiry_s=EVENT_EXPIRY_S)

    def _send(self, kind: str, payload: bytes, *, qos: int, retain: bool = False, expiry_s: int | None = None) -> None:
        if self._link is not None:
            self._link.publish(kind, payload, qos=qos, retain=retain, expiry_s=expiry_s)

    def close(self, timeout_s: float = 2.0) -> None:
        """Say that the device leaves, send what is still to be sent within the time, end the boot."""
        if self._unsaved:
            with self._careful():
                self._save()
        if self._link is not None:
            if self.online:
                state = State(SCHEMA, self._session, False, "stopped")
                self._send("state", encode(state), qos=1, retain=True)
            self._link.close(timeout_s if self.online else 0.0)
            self.online = False
        try:
            self._spool.close()
        except (NotWritable, Damaged) as error:
            self._log("spool_unwritable", str(error))


def _marked(stored: Stored) -> bytes:
    report = read_report(stored.payload)
    return encode(msgspec.structs.replace(report, flags=report.flags | BACKFILL))
