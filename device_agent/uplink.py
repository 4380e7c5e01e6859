"""What is sent when: reports live, what is older in batches, and again whatever the monitor does not acknowledge.

It knows no socket and no thread: `courier` hands it what happened, one thing after the other, and calls `tick`.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple, Protocol

import msgspec

from device_agent.config import Timing
from device_agent.contract.codec import SCHEMA, decode, encode
from device_agent.contract.control import Response
from device_agent.contract.errors import BadInput, LinesideError, NotWritable
from device_agent.contract.report import BACKFILL, DeviceReport, write_backfill
from device_agent.contract.review import Sample
from device_agent.contract.session import Ack, Birth, Event, State
from device_agent.merging import halve
from device_agent.spool import Damaged, Spool, Stored

BATCH = 60
BATCH_BYTES = 8 << 10
BIRTH_BYTES = 1 << 10
EVENTS_KEPT = 200
UNSAVED_KEPT = 1440
HELD_S, SHORT_CONNECTIONS = 60.0, 3
REOPEN_S = 10.0
REPORT_EXPIRY_S, EVENT_EXPIRY_S, RESPONSE_EXPIRY_S = 3600, 86_400, 60


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
    """Delivery of one device. `open_spool` gives the spool, and a sound one after damage; `log(kind, text)` is what a
    person reads.

    Without a spool, as on a full disk, reports are kept in memory and it is tried again every 10 s; until then the
    session has boot 0.

    Raises:
        BadInput: another agent uses the state folder, or a later version made its spool.
    """

    def __init__(
        self,
        open_spool: Callable[[], Spool],
        link: Link | None,
        *,
        timing: Timing,
        clocks: Clocks,
        log: Callable[[str, str], None],
        rng: random.Random,
        encoding: str = "msgpack",
        noted: Callable[[str, int], None] = lambda _what, _n: None,
    ) -> None:
        self._noted = noted
        self._link, self._timing, self._clocks = link, timing, clocks
        self._log, self._open_spool, self._rng, self._encoding = log, open_spool, rng, encoding
        self._spool: Spool | None = None
        self._boot, self._open_at = 0, 0.0
        self._birth: Birth | None = None
        self._events: deque[Event] = deque(maxlen=EVENTS_KEPT)
        self._unsaved: deque[DeviceReport] = deque()
        self._full = False
        self.online = False
        self._was_online: bool | None = None
        self._refused = ""
        self._refused_acks = 0
        self._connections, self._failures, self._short = 0, 0, 0
        self._online_at = 0.0
        self._retry_at: float | None = clocks.monotonic()
        self._give_up_at = 0.0
        self._sent_id, self._live_id = 0, 0
        self._head_id, self._progress_at = 0, 0.0
        try:
            self._use(open_spool())
        except (NotWritable, Damaged) as error:
            self._say_full(str(error))

    @property
    def waiting(self) -> int:
        """Reports in memory and, where it can be read, in the spool; a scan, not for every turn."""
        stored = 0
        with suppress(LinesideError):
            stored = self._spool.count() if self._spool is not None else 0
        return len(self._unsaved) + stored

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
        self._with_spool(self._save)

    def sample(self, sample: Sample) -> None:
        """The monitor has taken a sample. Its own table is the record: without a broker this is not said."""
        if self.online:
            self._send("sample", encode(sample, encoding=self._encoding), qos=1)

    def respond(self, response: Response) -> None:
        """The answer to a command or a configuration; one that nobody waits for any more is not kept."""
        if self.online:
            self._send("response", encode(response, encoding=self._encoding), qos=1, expiry_s=RESPONSE_EXPIRY_S)

    def retime(self, timing: Timing) -> None:
        """Reports come at another interval from now on."""
        self._timing = timing

    def _with_spool(self, work: Callable[[Spool], None]) -> None:
        """A disk that fails is said, a spool that broke is changed for a sound one; neither stops the agent."""
        try:
            work(self._spool or self._change_spool())
        except Damaged as error:
            if self._spool is None:
                self._say_full(str(error))
            else:
                self._spool.condemn()
                self._spool = None
        except NotWritable as error:
            self._say_full(str(error))

    def _save(self, spool: Spool) -> None:
        while self._unsaved:
            stored = spool.add(self._unsaved[0], handed=self.online)
            self._unsaved.popleft()
            self._noted("stored", 1)
            self._say_full("")
            self._send_live(spool, stored)
        saved = spool.shrink()
        if saved:
            self.event("spool_merged", f"{saved} rows were saved by merging the oldest reports")

    def _change_spool(self) -> Spool:
        """Another spool in the place of the one that broke or could not be opened, tried again every 10 s."""
        now = self._clocks.monotonic()
        if now < self._open_at:
            raise NotWritable("the spool could not be opened")
        self._open_at = now + REOPEN_S
        try:
            spool = self._open_spool()
        except BadInput as error:  # in use, or made by a later version
            raise NotWritable(str(error)) from error
        self._open_at = 0.0
        return self._use(spool)

    def _use(self, spool: Spool) -> Spool:
        """Go on with this spool; a new connection tells the broker its boot, in the last will too."""
        self._spool, self._boot = spool, spool.boot
        self._resend_all(spool)
        if self.online and self._link is not None:
            self._link.close(0.0)
            self.online, self._retry_at = False, self._clocks.monotonic()
        return spool

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
        self._events.append(Event(SCHEMA, self._boot, int(now * 1000), max(0, int(wall * 1000)), kind[:32], text[:300]))
        self._send_events()

    # What the broker says

    def connected(self) -> None:
        """The broker took the connection."""
        self.online, self._retry_at, self._refused = True, None, ""
        self._online_at = self._clocks.monotonic()
        self._say_online("")
        self._send("state", encode(State(SCHEMA, self._session, True)), qos=1, retain=True)
        self._send_birth()
        self._send_events()
        if self._spool is not None:
            self._resend_all(self._spool)
        self.tick()

    def disconnected(self, why: str, *, refused: bool = False) -> None:
        """The connection ended, or an attempt failed; `refused` by the broker means a longer wait."""
        if self.online:
            self._judge_connection(why)
        self.online = False
        self._failures += 3 if refused else 1
        low, high = self._timing.retry_low_s, self._timing.retry_high_s
        limit = min(high, self._timing.retry_first_s * 2 ** min(self._failures - 1, 10))
        self._retry_at = self._clocks.monotonic() + self._rng.uniform(min(low, limit), limit)
        if refused:
            self.rejected(why)
        self._say_online(why)

    def _judge_connection(self, why: str) -> None:
        """One that held ends the row of failures. Several that did not are what two devices of one name do, of which
        each connection ends that of the other."""
        if self._clocks.monotonic() - self._online_at >= HELD_S:
            self._failures = self._short = 0
            return
        self._short += 1
        if self._short == SHORT_CONNECTIONS:
            text = f"{self._short} connections in a row ended within {HELD_S:g} s ({why}): is the name used twice?"
            self.event("duplicate_device", text)

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
        try:
            ack = decode(payload, Ack)
        except BadInput as error:
            self._refuse_ack(str(error))
        else:
            self._with_spool(lambda spool: self._delete(spool, ack))

    def _delete(self, spool: Spool, ack: Ack) -> None:
        try:
            gone, kept = spool.acknowledge(ack.epoch, ack.sequence)
        except BadInput as error:
            self._refuse_ack(str(error))
            return
        if kept:
            self._refuse_ack(f"sequence {ack.sequence} is acknowledged, but {kept} reports up to it were never sent")
        if gone:
            self._noted("acknowledged", gone)
            self._say_refused_acks()
            self.tick()

    def _refuse_ack(self, why: str) -> None:
        """Only the first of a row is an event; how many followed is said when it ends."""
        self._refused_acks += 1
        if self._refused_acks == 1:
            self.event("ack_refused", why)

    def _say_refused_acks(self) -> None:
        if self._refused_acks > 1:
            self.event("ack_refused", f"{self._refused_acks - 1} more were refused")
        self._refused_acks = 0

    def rejected(self, why: str) -> None:
        """The broker did not take a message or a subscription: said once for each reason."""
        if why != self._refused:
            self._refused = why
            kind = "not_authorized" if "authori" in why else "quota_exceeded" if "quota" in why else "refused"
            self.event(kind, why)

    # What time says

    @property
    def _session(self) -> int:
        return self._boot * 65_536 + self._connections % 65_536

    def tick(self) -> None:
        """Do what is due: connect, resend, send the next batch, store what could not be stored."""
        now = self._clocks.monotonic()
        if self._unsaved or self._spool is None:
            self._with_spool(self._save)
        if self.online:
            self._with_spool(self._send_what_is_due)
        elif self._link is not None and self._retry_at is None and now >= self._give_up_at:
            self._link.give_up()
            self.disconnected("the broker does not answer")
        elif self._link is not None and self._retry_at is not None and now >= self._retry_at:
            self._retry_at, self._give_up_at = None, now + self._timing.connect_s
            self._connections += 1
            self._link.open(encode(State(SCHEMA, self._session, False, "lost")))

    def _send_what_is_due(self, spool: Spool) -> None:
        """Batches go one at a time; ids up to `_live_id` are the backlog, of which those up to `_sent_id` were sent.

        Progress is that the oldest report is gone: live ones that are acknowledged say nothing of a lost batch.
        """
        lowest, now = spool.pending(limit=1), self._clocks.monotonic()
        if not lowest:
            return
        if lowest[0].id != self._head_id:
            self._head_id, self._progress_at = lowest[0].id, now
        in_flight, backlog = lowest[0].id <= self._sent_id, lowest[0].id <= self._live_id
        patience_s = self._timing.resend_backfill_s if in_flight else self._timing.resend_live_s
        if (in_flight or not backlog) and now - self._progress_at >= patience_s:
            self._resend_all(spool)
            self._send_batch(spool)
        elif backlog and not in_flight:
            self._send_batch(spool)

    def _resend_all(self, spool: Spool) -> None:
        """Everything that is not acknowledged is to be sent again, in batches; what comes after is sent live."""
        self._sent_id, self._live_id = 0, spool.last_id

    def _send_batch(self, spool: Spool) -> None:
        """The next reports of the backlog, as many as fit."""
        batch = spool.pending(self._sent_id, up_to=self._live_id, limit=BATCH)
        if not batch:
            return
        payload = write_backfill([_marked(one) for one in batch])
        while len(payload) > BATCH_BYTES and len(batch) > 1:
            batch = batch[: len(batch) // 2]
            payload = write_backfill([_marked(one) for one in batch])
        spool.hand(batch[0].id, batch[-1].id)
        self._progress_at = self._clocks.monotonic()
        self._send("backfill", payload, qos=1)
        self._sent_id = batch[-1].id

    def _send_live(self, spool: Spool, stored: Stored) -> None:
        if not self.online:
            return
        if all(lowest.id == stored.id for lowest in spool.pending(limit=1)):
            self._head_id, self._progress_at = stored.id, self._clocks.monotonic()
        payload = stored.payload if self._encoding == "msgpack" else encode(stored.report, encoding=self._encoding)
        self._send("report", payload, qos=0, expiry_s=REPORT_EXPIRY_S)

    def _send_birth(self) -> None:
        if self._birth is None or self._spool is None:
            return
        birth = msgspec.structs.replace(self._birth, epoch=self._spool.epoch, boot=self._boot, encoding=self._encoding)
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

    def close(self, timeout_s: float = 2.0) -> str:
        """Say that the device leaves, send what is still to be sent within the time, end the boot; a sentence on the
        reports that are lost because they could not be stored, empty if none are."""
        if self._unsaved:
            self._open_at = 0.0
            self._with_spool(self._save)
        lost = ""
        if self._unsaved:
            frames = sum(report.frames for report in self._unsaved)
            lost = f"{len(self._unsaved)} reports ({frames} frames) are lost: they could not be stored"
            self.event("reports_lost", lost)
        if self._link is not None:
            if self.online:
                state = State(SCHEMA, self._session, False, "stopped")
                self._send("state", encode(state), qos=1, retain=True)
            self._link.close(timeout_s if self.online else 0.0)
            self.online = False
        if self._spool is not None:
            try:
                self._spool.close()
            except (NotWritable, Damaged) as error:
                self._log("spool_unwritable", str(error))
        return lost


def _marked(stored: Stored) -> bytes:
    return encode(msgspec.structs.replace(stored.report, flags=stored.report.flags | BACKFILL))
