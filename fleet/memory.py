"""The monitor's memory into the store: what the reports of devices led to, a part of the fleet at a time."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import bindparam, delete
from sqlalchemy.engine import Connection

from fleet.schema import DETECTOR
from fleet.store import upsert

if TYPE_CHECKING:
    from fleet.ingest import Ingest


def write_memory(ingest: Ingest, tx: Connection, number: int, reports: int, now_ms: int) -> None:
    """Store what the `reports` of a batch and earlier ones led to: of devices of which something else came, and of
    those that wait longest. Where other workers share the store, also of those in which there is anything to see, as
    the leader looks for them there."""
    ingest.dirty.must(ingest.registry.told | ingest.ledger.apart, number)
    ingest.registry.told.clear()
    if ingest.others is not None:
        ingest.dirty.must(ingest.fleet.hot, number)
    budget = ingest.dirty.budget(reports, len(ingest.registry.devices), ingest.registry.shortest_ms, now_ms)
    devices = ingest.dirty.take(sys.maxsize if ingest.everything else budget)
    ingest.registry.write(tx, devices, number)
    ingest.ledger.write_marks(tx, devices)
    rows, gone = [], []
    for device in devices:
        row = _row(ingest, device)
        if row is None:
            gone.append({"gone": device})
        else:
            rows.append(row)
    upsert(tx, DETECTOR, rows)
    if gone:
        tx.execute(delete(DETECTOR).where(DETECTOR.c.device == bindparam("gone")), gone)


def _row(ingest: Ingest, device: str) -> dict[str, Any] | None:
    memory = ingest.fleet.state(device)
    if memory is None:
        return None
    model, state, peers = memory
    reading = ingest.fleet.readings[device]
    return {
        "device": device,
        "model": model,
        "updated_ms": reading.at_ms,
        "state": state,
        "peers": peers,
        "alone": ingest.fleet.state_alone(device),
        "reading": msgspec.json.encode(reading).decode(),
        "hot": reading.stirring or reading.frozen or reading.alone is not None,
    }
