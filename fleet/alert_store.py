"""Alerts in the store: the alerts themselves, and beside each whether somebody still has to be told of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from sqlalchemy import Select, select
from sqlalchemy.engine import Connection

from device_agent.contract.alert import Alert
from fleet.schema import ALERT, OUTBOX
from fleet.store import upsert

STEP = 500


class Change(msgspec.Struct, frozen=True):
    """An alert that was opened, raised (or is covered no more), inhibited, closed, whose cause looks another by now
    ("explained"), or that just has newer figures ("updated")."""

    alert: Alert
    what: str


def write_changes(tx: Connection, changes: list[Change]) -> None:
    """Store what changed, and with it, in the same transaction, that it is to be told.

    Raises:
        NotWritable: the store cannot be written.
    """
    last = {change.alert.id: change.alert for change in changes}
    upsert(tx, ALERT, [_row(alert) for alert in last.values()])
    told = {change.alert.id: change for change in changes if change.what != "updated"}
    upsert(tx, OUTBOX, [_fresh(last[alert_id], change.what) for alert_id, change in told.items()])


def read_alerts(
    tx: Connection, *, closed: bool = False, since_ms: int = 0, device: str | None = None, limit: int | None = None
) -> list[Alert]:
    """Open alerts, newest first; with `closed` also those closed at or after `since_ms`, at most `limit` of them, the
    newest. `device`: only those that concern it."""
    columns = select(ALERT.c.document, ALERT.c.opened_ms, ALERT.c.id)
    if device is not None:
        columns = columns.where(ALERT.c.document.contains(f'"{device}"', autoescape=True))
    columns = columns.order_by(ALERT.c.opened_ms.desc(), ALERT.c.id)
    found = [alert for alert in _documents(tx, columns.where(ALERT.c.closed_ms.is_(None))) if _of(alert, device)]
    if closed:
        for alert in _documents(tx, columns.where(ALERT.c.closed_ms >= since_ms)):
            if limit is not None and limit <= 0:
                break
            if _of(alert, device):
                found.append(alert)
                limit = limit - 1 if limit is not None else None
        found.sort(key=lambda alert: (-alert.opened_ms, alert.id))
    return found


def find_alerts(tx: Connection, ids: list[str]) -> dict[str, Alert]:
    """The alerts of these ids that the store has, open or closed."""
    found: dict[str, Alert] = {}
    for start in range(0, len(ids), STEP):
        rows = tx.execute(select(ALERT.c.document).where(ALERT.c.id.in_(ids[start : start + STEP])))
        found.update((alert.id, alert) for alert in (msgspec.json.decode(row.document, type=Alert) for row in rows))
    return found


def _documents(tx: Connection, asked: Select[Any]) -> Iterator[Alert]:
    with tx.execute(asked.execution_options(yield_per=STEP)) as rows:
        for row in rows:
            yield msgspec.json.decode(row.document, type=Alert)


def _of(alert: Alert, device: str | None) -> bool:
    return device is None or device in alert.devices


def _row(alert: Alert) -> dict[str, object]:
    document = msgspec.json.encode(alert).decode()
    return {"id": alert.id, "opened_ms": alert.opened_ms, "closed_ms": alert.closed_ms, "document": document}


def _fresh(alert: Alert, what: str) -> dict[str, object]:
    revision = f"{what}:{alert.severity}:{alert.updated_ms}"[:64]
    return {"alert": alert.id, "revision": revision, "at_ms": alert.updated_ms, "fresh": True}
