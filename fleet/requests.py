"""What people ask of a running monitor: rows in the store's audit table, done by the monitor in one transaction."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import insert, select, text, update
from sqlalchemy.engine import Connection

from fleet.schema import AUDIT

ASKING = 0x6C696E61
"""Number of the advisory lock under which requests get their numbers, so that none shows up behind a later one."""


class Request(NamedTuple):
    """One wish: acknowledge an alert id, a changeover of a site or device, or imported devices or models. `done`: what
    is to be done once for the whole fleet is done."""

    id: int
    action: str
    target: str
    done: bool = False


def ask(tx: Connection, action: str, target: str, now_ms: int) -> None:
    """Leave a request for the monitor; done at once when it runs, else when it starts."""
    if tx.dialect.name == "postgresql":
        tx.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": ASKING})
    tx.execute(insert(AUDIT).values(asked_ms=now_ms, action=action, target=target, outcome=""))


def pending(tx: Connection, after: int) -> list[Request]:
    """Requests with a number above `after`, done or not, in the order in which they were made."""
    columns = (AUDIT.c.id, AUDIT.c.action, AUDIT.c.target, AUDIT.c.done_ms.is_not(None))
    rows = tx.execute(select(*columns).where(AUDIT.c.id > after).order_by(AUDIT.c.id))
    return [Request(row[0], row[1], row[2], bool(row[3])) for row in rows]


def settle(tx: Connection, request: Request, outcome: str, now_ms: int) -> None:
    """Mark a request as done."""
    tx.execute(update(AUDIT).where(AUDIT.c.id == request.id).values(done_ms=now_ms, outcome=outcome))
