"""One batch, one transaction: reports, what the detector makes of them, alerts, and what may be acknowledged.

Reports, alerts, and whatever no report tells are written in the batch's own transaction. Counters, watermarks and the
detector's memory follow from reports; they are written some batches later, each with the number of the batch that it
has seen. A monitor that is killed at any point reads them and feeds the stored reports of later batches again: no
report is lost, counted twice or fed twice.
"""

from __future__ import annotations

import sys

import msgspec
from sqlalchemy import Engine, bindparam, delete, func, select, update
from sqlalchemy.engine import Connection

from device_agent.detector.normal import Learning
from fleet.alerts import OF_CONDITION, AlertBook, Change
from fleet.detector_fleet import DetectorFleet, Settings
from fleet.dirty import BUDGET, Dirty
from fleet.gaps import write_gaps
from fleet.inbox import Batch, Reject
from fleet.ledger import Entry, Ledger, stored_after
from fleet.models import model_of_birth, read_models, write_models
from fleet.own_normal import OwnNormal
from fleet.quarantine import keep
from fleet.reading import Reading
from fleet.registry import Registry
from fleet.requests import Request, pending, settle
from fleet.rollup import note
from fleet.schema import DETECTOR, DEVICE, EVENT, META, MODEL, REPORT
from fleet.store import upsert

CLEAN = "clean"
"""Key of the number of the batch up to which no memory has to be had from reports again."""


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
    """The monitor's memory of one store, and the one way to change both together."""

    def __init__(self, engine: Engine, settings: Settings, *, hold_windows: int = 3) -> None:
        self._engine, self._settings, self._hold_windows = engine, settings, hold_windows
        self._load()

    def _load(self) -> None:
        """Everything as the store has it."""
        with self._engine.connect() as tx:
            self.registry = Registry.load(tx)
            self.ledger = Ledger.load(tx)
            self.fleet = DetectorFleet(read_models(tx), self.registry, self._settings)
            for row in tx.execute(select(MODEL.c.model, MODEL.c.learned).where(MODEL.c.learned.is_not(None))):
                self.fleet.learning[row.model] = msgspec.json.decode(row.learned, type=Learning)
            self.own = OwnNormal(self.fleet, self.registry)
            self.own.load(tx)
            current = (DEVICE.c.device == DETECTOR.c.device) & (DEVICE.c.model == DETECTOR.c.model)
            rows = tx.execute(select(DETECTOR.c.reading, DETECTOR.c.state, DETECTOR.c.peers).join(DEVICE, current))
            self.fleet.restore([(msgspec.json.decode(r.reading, type=Reading), r.state, r.peers) for r in rows])
            self.dirty = Dirty(lambda device: self.registry.get(device).group)
            self._catch_up(tx)
            self.alerts = AlertBook(self.registry, hold_windows=self._hold_windows)
            self.alerts.load(tx)
        self._ahead = False

    def _catch_up(self, tx: Connection) -> None:
        """Feed the stored reports that the memory has not seen yet."""
        clean = int(tx.scalar(select(META.c.value).where(META.c.key == CLEAN)) or 0)
        self._number = max(clean, tx.scalar(select(func.max(REPORT.c.batch))) or 0)
        for number, entries in stored_after(tx, clean, {name: d.batch for name, d in self.registry.devices.items()}):
            for entry in entries:
                self.ledger.cover(entry.device, entry.report.epoch, entry.report.sequence)
                if self.registry.hear_report(entry):
                    self.fleet.forget(entry.device)
            self.fleet.feed(entries)
            self.dirty.touch((entry.device for entry in entries), number)
        self.ledger.apart.clear()

    def process(self, batch: Batch, now_ms: int) -> Outcome:
        """Take in a batch. Whatever it raises, nothing of the batch is kept, and it may come again: memory is then read
        from the store before anything else is done.

        Raises:
            NotWritable: the store could not be written or read (disk full).
        """
        if self._ahead:
            self._load()
        self._ahead = True
        with self._engine.begin() as tx:
            outcome = self._work(tx, batch, now_ms)
        self._ahead = False
        outcome.acks = self.ledger.acknowledge()
        return outcome

    def _work(self, tx: Connection, batch: Batch, now_ms: int) -> Outcome:
        outcome = Outcome(rejected=len(batch.rejects))
        self._number, self._everything = max(self._number + 1, now_ms), False
        for request in pending(tx):
            outcome.changes += self._grant(tx, request, now_ms)
        self._hear(tx, batch)
        self._set_aside(tx, batch.rejects)
        entries = self.ledger.take(tx, batch.reports)
        outcome.stored, outcome.repeated = len(entries), len(batch.reports) - len(entries)
        for entry in entries:
            if self.registry.hear_report(entry):
                outcome.changes += self._deploy(entry, now_ms)
        judged = self.fleet.feed(entries)
        self._learn(tx, entries)
        self.own.hear(tx, {entry.device for entry in entries}, now_ms)
        self.dirty.must(self.own.learn(tx, now_ms), self._number)
        concerned = {device for alert in self.alerts.open.values() for device in alert.devices}
        seen = self.fleet.hot | (concerned & set(judged) if concerned else set())
        outcome.changes += self.alerts.step(self.fleet.readings, seen & self.fleet.readings.keys(), now_ms)
        found = {device for one in outcome.changes if one.what in ("opened", "raised") for device in one.alert.devices}
        self.own.restart(tx, found, now_ms, learnt=False)
        self.ledger.write(tx, entries, self._number)
        write_gaps(tx, entries)
        note(tx, [*((entry.device, entry.at_ms) for entry in entries), *self.ledger.replaced])
        self.alerts.write(tx, outcome.changes)
        self.dirty.touch((entry.device for entry in entries), self._number)
        self._write_memory(tx)
        return outcome

    def _hear(self, tx: Connection, batch: Batch) -> None:
        for device, birth, received_ms in batch.births:
            known = (device, birth.epoch) in self.ledger.marks
            if self.registry.hear_birth(device, birth, received_ms, known=known):
                self.ledger.forget_clocks(device)
            if birth.model.hex() not in self.fleet.models:
                model = model_of_birth(birth)
                write_models(tx, [model])
                self.fleet.models[model.model] = model
        for device, state, received_ms in batch.states:
            self.registry.hear_state(device, state, received_ms)
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
        """Count reports of models whose normal is not known; devices of one that is known now start from nothing."""
        moved, renewed = self.fleet.learn(entries)
        for model in moved:
            learned = msgspec.json.encode(self.fleet.learning[model]).decode()
            tx.execute(update(MODEL).where(MODEL.c.model == model).values(learned=learned))
        self.dirty.must(renewed, self._number)

    def _deploy(self, entry: Entry, now_ms: int) -> list[Change]:
        """A device speaks for another model: its detector starts from nothing, alerts on the old model close."""
        self.fleet.forget(entry.device)
        return self.alerts.calm({entry.device}, f"the device now runs model {entry.report.model.hex()}", now_ms)

    def _grant(self, tx: Connection, request: Request, now_ms: int) -> list[Change]:
        changes: list[Change] = []
        outcome = "done"
        if request.action == "devices":
            places = {device.device: device.group for device in self.registry.devices.values()}
            self.registry.refresh_places(tx)
            moved = {name for name, group in places.items() if self.registry.get(name).group != group}
            changes = self.alerts.leave(moved, "moved to another place", now_ms)
            self._everything = True
        elif request.action == "models":
            for model in read_models(tx).values():
                if model != self.fleet.models.get(model.model):
                    self.own.forget_model(tx, model.model)
                    self.dirty.must(self.fleet.renew(model), self._number)
        elif request.action == "acknowledge":
            alert = self.alerts.open.get(request.target)
            if alert is None:
                outcome = "no such open alert"
            else:
                reason = f"acknowledged (alert {alert.id})"
                if alert.stream in OF_CONDITION:
                    changes = self.alerts.acknowledge(alert.id, reason, now_ms)
                else:
                    changes = self._calm(tx, set(alert.devices), reason, now_ms)
        elif request.action == "changeover":
            names = {d.device for d in self.registry.devices.values() if request.target in (d.device, d.site)}
            for name in names:
                self.registry.forget_quality(name)
            changes = self._calm(tx, names, "change-over", now_ms, anew=True)
            outcome = f"{len(names)} devices start from nothing"
        settle(tx, request, outcome, now_ms)
        return changes

    def _calm(self, tx: Connection, devices: set[str], reason: str, now_ms: int, *, anew: bool = False) -> list[Change]:
        """Start devices from nothing and close their alerts; those of others stay. `anew`: their own normal is gone."""
        for device in devices:
            self.fleet.forget(device)
        self.dirty.must(devices, self._number)
        self.own.restart(tx, devices, now_ms, learnt=anew)
        return self.alerts.calm(devices, reason, now_ms)

    def _write_memory(self, tx: Connection) -> None:
        """Store what the reports led to: of devices of which something else came, and of those that wait longest."""
        self.dirty.must(self.registry.told | self.ledger.apart, self._number)
        self.registry.told.clear()
        devices = self.dirty.take(sys.maxsize if self._everything else BUDGET)
        self.registry.write(tx, devices, self._number)
        self.ledger.write_marks(tx, devices)
        rows, gone = [], []
        for device in devices:
            memory = self.fleet.state(device)
            if memory is None:
                gone.append(device)
                continue
            model, state, peers = memory
            reading = self.fleet.readings[device]
            rows.append(
                {
                    "device": device,
                    "model": model,
                    "updated_ms": reading.at_ms,
                    "state": state,
                    "peers": peers,
                    "reading": msgspec.json.encode(reading).decode(),
                }
            )
        upsert(tx, DETECTOR, rows)
        if gone:
            tx.execute(
                delete(DETECTOR).where(DETECTOR.c.device == bindparam("gone")), [{"gone": name} for name in gone]
            )
        upsert(tx, META, [{"key": CLEAN, "value": str(self.dirty.clean(self._number))}])

    def _set_aside(self, tx: Connection, rejects: list[Reject]) -> None:
        """Keep what cannot be read. A report that is kept whole counts as held; any other one the device must keep."""
        whole = keep(tx, rejects)
        for reject in rejects:
            if reject.device and reject.epoch is not None and reject.sequence:
                note = self.ledger.cover if reject in whole else self.ledger.await_again
                note(reject.device, reject.epoch, reject.sequence, at_ms=reject.received_ms)
