"""One batch, one transaction: reports, what the detector makes of them, alerts, and what may be acknowledged.

The detector's memory is written with the reports that it saw. A monitor that is killed at any point finds both or
neither, so that no report is lost, counted twice or fed twice.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress

import msgspec
from sqlalchemy import Engine, delete, func, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from fleet.alerts import AlertBook, Change
from fleet.baseline import Learning
from fleet.detector_fleet import DetectorFleet, Settings
from fleet.inbox import Batch, Reject
from fleet.ledger import Entry, Ledger
from fleet.models import model_of_birth, read_models, write_models
from fleet.reading import Reading
from fleet.registry import Registry
from fleet.requests import Request, pending, settle
from fleet.schema import DETECTOR, DEVICE, EVENT, MODEL, QUARANTINE
from fleet.store import upsert

KEPT_BYTES = 65_536
KEPT_MESSAGES = 10_000


class Outcome(msgspec.Struct):
    """What a committed batch leads to: acks (device, epoch, sequence), changed alerts, and counts."""

    acks: list[tuple[str, int, int]] = []
    changes: list[Change] = []
    stored: int = 0
    repeated: int = 0
    rejected: int = 0
    notes: list[str] = []


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
            current = (DEVICE.c.device == DETECTOR.c.device) & (DEVICE.c.model == DETECTOR.c.model)
            rows = tx.execute(select(DETECTOR.c.reading, DETECTOR.c.state, DETECTOR.c.peers).join(DEVICE, current))
            self.fleet.restore([(msgspec.json.decode(r.reading, type=Reading), r.state, r.peers) for r in rows])
            self.alerts = AlertBook(self.registry, hold_windows=self._hold_windows)
            self.alerts.load(tx)

    def process(self, batch: Batch, now_ms: int) -> Outcome:
        """Take in a batch. When the store fails, memory is as the store is, and the batch may come again.

        Raises:
            SQLAlchemyError: the store could not be written (disk full); nothing of the batch is kept.
        """
        try:
            with self._engine.begin() as tx:
                outcome = self._work(tx, batch, now_ms)
        except SQLAlchemyError:
            with suppress(SQLAlchemyError):
                self._load()
            raise
        outcome.acks = self.ledger.acknowledge()
        return outcome

    def _work(self, tx: Connection, batch: Batch, now_ms: int) -> Outcome:
        outcome = Outcome(rejected=len(batch.rejects))
        for request in pending(tx):
            outcome.changes += self._grant(tx, request, now_ms)
        self._hear(tx, batch)
        entries = self.ledger.take(tx, batch.reports)
        outcome.stored, outcome.repeated = len(entries), len(batch.reports) - len(entries)
        for entry in entries:
            if self.registry.hear_report(entry):
                outcome.changes += self._deploy(entry, now_ms)
        judged = self.fleet.feed(entries)
        self._write_learning(tx, self.fleet.learn(entries))
        outcome.changes += self.alerts.step(self.fleet.readings, judged & self.fleet.readings.keys(), now_ms)
        self._quarantine(tx, batch.rejects)
        self.ledger.write(tx, entries)
        self.registry.write(tx)
        self._write_memory(tx, judged)
        self.alerts.write(tx, outcome.changes)
        return outcome

    def _hear(self, tx: Connection, batch: Batch) -> None:
        for device, birth, received_ms in batch.births:
            self.registry.hear_birth(device, birth, received_ms)
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

    def _deploy(self, entry: Entry, now_ms: int) -> list[Change]:
        """A device speaks for another model: its detector starts from nothing, alerts on the old model close."""
        self.fleet.forget(entry.device)
        return self.alerts.close_device(entry.device, f"the device now runs model {entry.report.model.hex()}", now_ms)

    def _grant(self, tx: Connection, request: Request, now_ms: int) -> list[Change]:
        changes: list[Change] = []
        outcome = "done"
        if request.action == "devices":
            self.registry.refresh_places(tx)
        elif request.action == "models":
            for model in read_models(tx).values():
                if model != self.fleet.models.get(model.model):
                    self._forget_model(tx, model.model)
                    self.fleet.renew(model)
        elif request.action == "acknowledge":
            alert = self.alerts.open.get(request.target)
            if alert is None:
                outcome = "no such open alert"
            else:
                changes = self._calm(tx, set(alert.devices), f"acknowledged (alert {alert.id})", now_ms)
        elif request.action == "changeover":
            names = {d.device for d in self.registry.devices.values() if request.target in (d.device, d.site)}
            for name in names:
                self.registry.forget_quality(name)
            changes = self._calm(tx, names, "change-over", now_ms)
            outcome = f"{len(names)} devices start from nothing"
        settle(tx, request, outcome, now_ms)
        return changes

    def _calm(self, tx: Connection, devices: set[str], reason: str, now_ms: int) -> list[Change]:
        """Start devices from nothing and close their alerts."""
        for device in devices:
            self.fleet.forget(device)
        self._write_memory(tx, devices)
        return self.alerts.close(lambda alert: bool(devices.intersection(alert.devices)), reason, now_ms)

    def _forget_model(self, tx: Connection, model: str) -> None:
        tx.execute(delete(DETECTOR).where(DETECTOR.c.model == model))

    def _write_learning(self, tx: Connection, models: set[str]) -> None:
        for model in models:
            learned = msgspec.json.encode(self.fleet.learning[model]).decode()
            tx.execute(update(MODEL).where(MODEL.c.model == model).values(learned=learned))

    def _write_memory(self, tx: Connection, devices: set[str]) -> None:
        rows = []
        for device in sorted(devices):
            memory = self.fleet.state(device)
            if memory is not None:
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

    def _quarantine(self, tx: Connection, rejects: list[Reject]) -> None:
        for reject in rejects:
            if reject.device and reject.epoch is not None and reject.sequence:
                self.ledger.cover(reject.device, reject.epoch, reject.sequence, at_ms=reject.received_ms)
        write_rejects(tx, rejects)


def write_rejects(tx: Connection, rejects: list[Reject]) -> None:
    """Keep messages that cannot be read, the newest `KEPT_MESSAGES`; an equal one again only counts."""
    for reject in rejects:
        digest = hashlib.sha256(reject.topic.encode() + b"\0" + reject.payload).hexdigest()
        known = tx.execute(
            update(QUARANTINE)
            .where(QUARANTINE.c.digest == digest)
            .values(times=QUARANTINE.c.times + 1, received_ms=reject.received_ms)
        )
        if not known.rowcount:
            tx.execute(
                QUARANTINE.insert().values(
                    received_ms=reject.received_ms,
                    topic=reject.topic[:300],
                    device=reject.device,
                    reason=reject.reason[:500],
                    times=1,
                    digest=digest,
                    payload=reject.payload[:KEPT_BYTES],
                )
            )
    if rejects:
        newest = tx.scalar(select(func.max(QUARANTINE.c.id))) or 0
        tx.execute(delete(QUARANTINE).where(QUARANTINE.c.id <= newest - KEPT_MESSAGES))
