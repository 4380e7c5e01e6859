"""One batch, one transaction: reports, what the detector makes of them, alerts, and what may be acknowledged.

Reports, alerts, and whatever no report tells are written in the batch's own transaction. Counters, watermarks and the
detector's memory follow from reports; they are written some batches later, each with the number of the batch that it
has seen. A monitor that is killed at any point reads them and feeds the stored reports of later batches again: no
report is lost, counted twice or fed twice. The same happens when a worker takes over the shards of another.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

import msgspec
from sqlalchemy import Engine, func, select, update
from sqlalchemy.engine import Connection

from device_agent.contract.report import read_report
from device_agent.detector.normal import Learning
from fleet.alerts import AlertBook, Change
from fleet.attendance import Attendance
from fleet.detector_fleet import DetectorFleet, Settings
from fleet.diagnostics.watching import Watching, check_tests, write_alarms
from fleet.dirty import Dirty
from fleet.gaps import write_gaps
from fleet.golden_watch import GoldenWatch
from fleet.grants import grant
from fleet.inbox import Batch, Reject
from fleet.leases import Alone, Leases
from fleet.ledger import Entry, Ledger, stored_after
from fleet.memory import write_memory
from fleet.models import model_of_birth, read_models, write_models
from fleet.others import Others
from fleet.own_normal import OwnNormal
from fleet.quarantine import keep
from fleet.reading import Reading
from fleet.references import put_back
from fleet.registry import Registry
from fleet.requests import pending
from fleet.rollup import note
from fleet.schema import DETECTOR, DEVICE, EVENT, MODEL, REPORT
from fleet.shadow.tally import Gone, tally
from fleet.shards import ShardMarks
from fleet.store import upsert


class Outcome(msgspec.Struct):
    """What a committed batch leads to: acks (device, epoch, sequence), changed alerts, and counts."""

    acks: list[tuple[str, int, int]] = []
    changes: list[Change] = []
    stored: int = 0
    repeated: int = 0
    rejected: int = 0

    def add(self, other: Outcome) -> None:
        """Join what a later batch leads to."""
        self.acks += other.acks
        self.changes += other.changes
        self.stored += other.stored
        self.repeated += other.repeated
        self.rejected += other.rejected


class Ingest:
    """A worker's memory of one store, for the shards that it holds, and the one way to change both together.

    Args:
        engine: of the store.
        settings: of the detector.
        hold_windows: see `AlertBook`.
        leases: the shards of this worker; by default it has the store for itself.
        monotonic_ms: a clock that nobody sets; with it devices that fall silent are found too.
        tests: textbook tests whose alarms become events of the device, as information.

    Raises:
        BadInput: there is no such test.
    """

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        *,
        hold_windows: int = 3,
        leases: Leases | Alone | None = None,
        monotonic_ms: Callable[[], float] | None = None,
        tests: Collection[str] = (),
    ) -> None:
        self._tests = check_tests(tests)
        self._engine, self._settings, self._hold_windows = engine, settings, hold_windows
        self.leases, self._monotonic_ms = leases or Alone(), monotonic_ms
        self.load()

    def load(self) -> None:
        """Take up everything as the store has it, for the shards that are held now."""
        with self._engine.connect() as tx:
            self.marks = ShardMarks.load(tx, self.leases.held)
            mine = self.marks.holds
            self.registry = Registry.load(tx)
            self.ledger = Ledger.load(tx, mine)
            self.fleet = DetectorFleet(read_models(tx), self.registry, self._settings)
            for row in tx.execute(select(MODEL.c.model, MODEL.c.learned).where(MODEL.c.learned.is_not(None))):
                self.fleet.learning[row.model] = msgspec.json.decode(row.learned, type=Learning)
            self.own = OwnNormal(self.fleet, self.registry, mine=mine)
            self.own.load(tx)
            current = (DEVICE.c.device == DETECTOR.c.device) & (DEVICE.c.model == DETECTOR.c.model)
            rows = [row for row in tx.execute(select(DETECTOR).join(DEVICE, current)) if mine(row.device)]
            memories = [(msgspec.json.decode(r.reading, type=Reading), r.state, r.peers, r.alone) for r in rows]
            self.fleet.restore(memories)
            self.dirty = Dirty(lambda device: self.registry.get(device).group)
            self._catch_up(tx)
            self.alerts = AlertBook(self.registry, hold_windows=self._hold_windows)
            self.alerts.load(tx)
            self.others = Others(self, tx) if self.leases.shared else None
        self.golden = GoldenWatch(self.alerts)
        self.attendance = None
        if self._monotonic_ms is not None and self.leases.leads:
            self.attendance = Attendance(self.registry, self.alerts, self._monotonic_ms)
        self.tests = Watching(self._tests)
        self._ahead = False

    def _catch_up(self, tx: Connection) -> None:
        """Feed the stored reports that the memory has not seen yet."""
        self._number = max(self.marks.clean, tx.scalar(select(func.max(REPORT.c.batch))) or 0)
        seen = {name: device.batch for name, device in self.registry.devices.items()}
        for number, entries in stored_after(tx, self.marks.clean, seen, self.marks.holds):
            for entry in entries:
                self.ledger.cover(entry.device, entry.report.epoch, entry.report.sequence)
                if self.registry.hear_report(entry):
                    self.fleet.forget(entry.device)
            self.fleet.feed(entries)
            self.dirty.touch((entry.device for entry in entries), number)
        self.ledger.apart.clear()

    def process(self, batch: Batch, now_ms: int, *, hearing: bool = True) -> Outcome:
        """Take in a batch. Whatever it raises, nothing of the batch is kept, and it may come again: memory is then read
        from the store before anything else is done. `hearing`: whether devices can be heard at all.

        Raises:
            NotWritable: the store could not be written or read (disk full).
            Fenced: another worker has shards of this one; the leases are to be acquired and all is to be loaded.
        """
        if self._ahead:
            self.load()
        self._ahead = True
        with self._engine.begin() as tx:
            self.leases.renew(tx)
            outcome = self._work(tx, batch, now_ms, hearing)
        self._ahead = False
        outcome.acks = self.ledger.acknowledge()
        return outcome

    def must_store(self, devices: Iterable[str]) -> None:
        """Store the memory of these devices with this batch: it changed by something that no report tells."""
        self.dirty.must(devices, self._number)

    def _work(self, tx: Connection, batch: Batch, now_ms: int, hearing: bool) -> Outcome:
        if self.leases.shared:
            batch = batch.only(self.marks.holds)
        outcome = Outcome(rejected=len(batch.rejects))
        self._number, self.everything, granted = max(self._number + 1, now_ms), False, 0
        for request in pending(tx, self.marks.granted):
            outcome.changes += grant(self, tx, request, now_ms)
            granted = request.id
        self._hear(tx, batch)
        self._set_aside(tx, batch.rejects)
        entries = self.ledger.take(tx, batch.reports)
        outcome.stored, outcome.repeated = len(entries), len(batch.reports) - len(entries)
        for entry in entries:
            if self.registry.hear_report(entry):
                outcome.changes += self._deploy(entry, now_ms)
        judged = self.fleet.feed(entries)
        write_alarms(tx, self.tests.feed(entries, self.fleet.models, self.fleet.learning))
        self._learn(tx, entries)
        self.own.hear(tx, {entry.device for entry in entries}, now_ms)
        self.must_store(self.own.learn(tx, now_ms))
        if self.others is not None:
            outcome.changes += self.others.turn(tx, now_ms)
        if self.attendance is not None:
            self.attendance.hear_reports(entries, now_ms)
            outcome.changes += self.attendance.turn(now_ms, hearing=hearing)
        if self.leases.leads:
            outcome.changes += [*self._raise(tx, judged, now_ms), *self.golden.turn(tx, now_ms)]
        self.ledger.write(tx, entries, self._number)
        write_gaps(tx, entries)
        gone = [Gone(device, at_ms, read_report(payload)) for device, at_ms, payload in self.ledger.replaced]
        note(tx, [(entry.device, entry.at_ms) for entry in entries] + [one[:2] for one in gone], now_ms)
        tally(tx, entries, gone)
        self.alerts.write(tx, outcome.changes)
        self.dirty.touch((entry.device for entry in entries), self._number)
        write_memory(self, tx, self._number, len(entries), now_ms)
        self.marks.write(tx, self.dirty.clean(self._number), granted)
        return outcome

    def _raise(self, tx: Connection, judged: list[str], now_ms: int) -> list[Change]:
        """What the readings of devices change of alerts; those in which something is found are no healthy ones."""
        concerned = {device for alert in self.alerts.open.values() for device in alert.devices}
        seen = self.fleet.hot | (concerned & set(judged) if concerned else set())
        readings: Mapping[str, Reading] = self.fleet.readings
        if self.others is not None:
            readings = self.others.readings
            seen |= self.others.look(tx, concerned, now_ms)
        changes = self.alerts.step(readings, seen & readings.keys(), now_ms)
        found = {device for one in changes if one.what in ("opened", "raised") for device in one.alert.devices}
        mine = {device for device in found if self.marks.holds(device)}
        self.own.restart(tx, mine, now_ms, learnt=False)
        put_back(tx, found - mine, now_ms)
        return changes

    def _hear(self, tx: Connection, batch: Batch) -> None:
        for device, birth, received_ms in batch.births:
            known = (device, birth.epoch) in self.ledger.marks
            anew = self.registry.hear_birth(device, birth, received_ms, known=known)
            if anew:
                self.ledger.forget_clocks(device)
            if self.attendance is not None:
                self.attendance.hear_birth(device, anew=anew)
            if birth.model.hex() not in self.fleet.models:
                model = model_of_birth(birth)
                write_models(tx, [model])
                self.fleet.models[model.model] = model
        for device, state, received_ms in batch.states:
            self.registry.hear_state(device, state, received_ms)
            if self.attendance is not None:
                self.attendance.hear_state(device, state)
        events = {
            (device, event.boot, event.monotonic_ms, event.kind): {
                "device": device,
                "boot": event.boot,
                "monotonic_ms": event.monotonic_ms,
                "kind": event.kind,
                "at_ms": received_ms,
                "text": event.text,
            }
            for device, event, received_ms in batch.events
        }
        upsert(tx, EVENT, list(events.values()), keep=("at_ms",))

    def _learn(self, tx: Connection, entries: list[Entry]) -> None:
        """Count reports of models whose normal is not known; devices of one that is known now start from nothing. One
        worker counts for all."""
        if not self.leases.leads:
            return
        moved, renewed = self.fleet.learn(entries)
        for model in moved:
            learned = msgspec.json.encode(self.fleet.learning[model]).decode()
            tx.execute(update(MODEL).where(MODEL.c.model == model).values(learned=learned))
        self.must_store(renewed)

    def _deploy(self, entry: Entry, now_ms: int) -> list[Change]:
        """A device speaks for another model: its detector starts from nothing, alerts on the old model close."""
        self.fleet.forget(entry.device)
        if not self.leases.leads:  # the leader sees it in the store
            return []
        return self.alerts.calm({entry.device}, f"the device now runs model {entry.report.model.hex()}", now_ms)

    def _set_aside(self, tx: Connection, rejects: list[Reject]) -> None:
        """Keep what cannot be read. A report that is kept whole counts as held; any other one the device must keep."""
        whole = keep(tx, rejects)
        for reject in rejects:
            if reject.device and reject.epoch is not None and reject.sequence:
                note = self.ledger.cover if reject in whole else self.ledger.await_again
                note(reject.device, reject.epoch, reject.sequence, at_ms=reject.received_ms)
