"""What people ask of a running monitor: rows in the store's audit table, done by the monitor in one transaction."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import insert, select, update
from sqlalchemy.engine import Connection

from fleet.schema import AUDIT


class Request(NamedTuple):
    """One wish: acknowledge an alert id, a changeover of a site or device, or imported devices or models."""

    id: int
    action: str
    target: str


def ask(tx: Connection, action: str, target: str, now_ms: int) -> None:
    """Leave a request for the monitor; done at once when it runs, else when it starts."""
    tx.execute(insert(AUDIT).values(asked_ms=now_ms, action=action, target=target, outcome=""))


def pending(tx: Connection) -> list[Request]:
    """Requests that are not done yet, in the order in which they were made."""
    rows = tx.execute(
        select(AUDIT.c.id, AUDIT.c.action, AUDIT.c.target).where(AUDIT.c.done_ms.is_(None)).order_by(AUDIT.c.id)
    )
    return [Request(*row) for row in rows]


def settle(tx: Connection, request: Request, outcome: str, now_ms: int) -> None:
    """Mark a request as done."""
    tx.execute(update(AUDIT).where(AUDIT.c.id == request.id).values(done_ms=now_ms, outcome=outcome))
