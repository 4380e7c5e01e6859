"""Messages that cannot be read: kept whole and never pushed out, or only counted, and then the device must keep them.

A device deletes what is acknowledged. So only a report that is kept whole may be acknowledged. Of what a later version
can read, of what is over `KEPT_BYTES` and of all that comes after `KEPT_MESSAGES` of one device there is only a count.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from sqlalchemy import func, select, update
from sqlalchemy.engine import Connection

from fleet.inbox import Reject
from fleet.schema import QUARANTINE

KEPT_BYTES = 65_536
KEPT_MESSAGES = 1_000


class Kept(NamedTuple):
    """One row: `size` in bytes is 0 where messages are only counted; `received_ms` is the last time."""

    topic: str
    device: str | None
    reason: str
    received_ms: int
    times: int
    size: int


def keep(tx: Connection, rejects: list[Reject]) -> set[Reject]:
    """Set messages aside; those of them that are kept whole. An equal one again only counts."""
    held = _held(tx) if rejects else {}
    whole = set()
    for reject in rejects:
        digest = _digest(reject.topic.encode("utf-8", "replace"), reject.payload)
        if _count(tx, digest, reject):
            whole.add(reject)
        elif reject.newer or len(reject.payload) > KEPT_BYTES or held.get(reject.device, 0) >= KEPT_MESSAGES:
            only_counted = _digest(str(reject.device).encode(), b"newer" if reject.newer else b"too much")
            if not _count(tx, only_counted, reject):
                _insert(tx, only_counted, reject, payload=b"")
        else:
            _insert(tx, digest, reject, payload=reject.payload)
            held[reject.device] = held.get(reject.device, 0) + 1
            whole.add(reject)
    return whole


def read_quarantine(tx: Connection) -> list[Kept]:
    """What is in quarantine, the latest last."""
    columns = (QUARANTINE.c.topic, QUARANTINE.c.device, QUARANTINE.c.reason, QUARANTINE.c.received_ms)
    size = func.length(QUARANTINE.c.payload)
    rows = tx.execute(select(*columns, QUARANTINE.c.times, size).order_by(QUARANTINE.c.received_ms, QUARANTINE.c.id))
    return [Kept(*row) for row in rows]


def _held(tx: Connection) -> dict[str | None, int]:
    rows = tx.execute(select(QUARANTINE.c.device, func.count()).group_by(QUARANTINE.c.device))
    return {device: int(count) for device, count in rows}


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _count(tx: Connection, digest: str, reject: Reject) -> bool:
    again = {"times": QUARANTINE.c.times + 1, "received_ms": reject.received_ms}
    return bool(tx.execute(update(QUARANTINE).where(QUARANTINE.c.digest == digest).values(again)).rowcount)


def _insert(tx: Connection, digest: str, reject: Reject, *, payload: bytes) -> None:
    row = {
        "received_ms": reject.received_ms,
        "topic": reject.topic[:300],
        "device": reject.device,
        "reason": reject.reason[:500],
        "times": 1,
        "digest": digest,
        "payload": payload,
    }
    tx.execute(QUARANTINE.insert().values(row))
