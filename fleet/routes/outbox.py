"""What is still to be told, in the store: changes become deliveries, one for each route and alert.

A delivery says what its route was told of its alert last. What to tell next is worked out from that and from how the
alert is now, so that nothing is lost by a crash, and changes that pile up behind an unreachable route become one.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from sqlalchemy import bindparam, delete, false, select, true, update
from sqlalchemy.engine import Connection, RowMapping

from fleet.alert_store import find_alerts
from fleet.escalation import Told
from fleet.matching import read_facts
from fleet.routes.settings import RouteSettings
from fleet.schema import ALERT, DELIVERY, OUTBOX, ROUTE_LEASE
from fleet.store import upsert

STEP = 500
AT_ONCE = 20_000
KEEP_MS = 90 * 86_400_000
KEPT = ("told", "told_ms", "attempts", "failing_ms", "held", "error", "given_up_ms")


class Delivery(msgspec.Struct, kw_only=True):
    """One alert on one route. `told`: what the route knows of it; `due_ms`: when it is to be looked at again, None:
    there is nothing to do; `held`: why it waits; `failing_ms`: since when it could not be told."""

    route: str
    alert: str
    told: Told | None = None
    told_ms: int | None = None
    due_ms: int | None = None
    attempts: int = 0
    failing_ms: int | None = None
    held: str = ""
    error: str = ""
    given_up_ms: int | None = None


def plan(tx: Connection, routes: Sequence[RouteSettings], now_ms: int, *, every_open: bool = False) -> int:
    """Give the routes that want it every change that they do not know of yet; how many changes there were.

    Args:
        every_open: look at all open alerts, as after a start: a route may be new, an alert of an older store.
    """
    fresh = {row.alert: row.revision for row in tx.execute(
        select(OUTBOX.c.alert, OUTBOX.c.revision).where(OUTBOX.c.fresh == true()).limit(AT_ONCE)
    )}  # fmt: skip
    ids = list(fresh)
    if every_open:
        ids += [i for i in tx.scalars(select(ALERT.c.id).where(ALERT.c.closed_ms.is_(None))) if i not in fresh]
    if not ids:
        return 0
    alerts = find_alerts(tx, ids)
    facts = read_facts(tx, list(alerts.values()))
    known = _known(tx, ids)
    rows = [
        _row(Delivery(route=route.name, alert=alert_id, due_ms=now_ms))
        for alert_id in alerts
        for route in routes
        if (route.name, alert_id) in known or route.matcher.fits(facts[alert_id])
    ]
    upsert(tx, DELIVERY, rows, keep=KEPT)
    if fresh:
        same = (OUTBOX.c.alert == bindparam("a")) & (OUTBOX.c.revision == bindparam("r"))
        seen = [{"a": alert_id, "r": revision} for alert_id, revision in fresh.items()]
        tx.execute(update(OUTBOX).where(same).values(fresh=false()), seen)
    return len(ids)


def read_due(tx: Connection, route: str, now_ms: int) -> list[Delivery]:
    """Deliveries of a route whose time has come, at most `AT_ONCE`, the longest due first."""
    asked = select(DELIVERY).where(DELIVERY.c.route == route, DELIVERY.c.due_ms <= now_ms)
    return [_delivery(row) for row in tx.execute(asked.order_by(DELIVERY.c.due_ms).limit(AT_ONCE)).mappings()]


def read_deliveries(tx: Connection, alerts: Sequence[str]) -> dict[str, list[Delivery]]:
    """Deliveries of alerts by their ids, by the name of the route."""
    found: dict[str, list[Delivery]] = {alert: [] for alert in alerts}
    for start in range(0, len(alerts), STEP):
        some = DELIVERY.c.alert.in_(alerts[start : start + STEP])
        for row in tx.execute(select(DELIVERY).where(some).order_by(DELIVERY.c.route)).mappings():
            found[row["alert"]].append(_delivery(row))
    return found


def write_deliveries(tx: Connection, deliveries: Sequence[Delivery]) -> None:
    """Store deliveries as they are now."""
    upsert(tx, DELIVERY, [_row(delivery) for delivery in deliveries])


def forget(tx: Connection, now_ms: int) -> None:
    """Remove what is known of deliveries of alerts that closed `KEEP_MS` ago; the alerts stay."""
    old = select(ALERT.c.id).where(ALERT.c.closed_ms < now_ms - KEEP_MS)
    tx.execute(delete(DELIVERY).where(DELIVERY.c.alert.in_(old)))
    tx.execute(delete(OUTBOX).where(OUTBOX.c.alert.in_(old)))


def claim(tx: Connection, owner: str, now_ms: int, until_ms: int) -> bool:
    """Take or keep the right to deliver until `until_ms`; False while another process has it. A lease that lies further
    ahead than any is given comes of a clock that was set back, and counts for nothing."""
    upsert(tx, ROUTE_LEASE, [{"name": "routes", "owner": owner, "until_ms": 0}], keep=("owner", "until_ms"))
    free = (ROUTE_LEASE.c.owner == owner) | (ROUTE_LEASE.c.until_ms <= now_ms)
    beyond = ROUTE_LEASE.c.until_ms > now_ms + 10 * max(until_ms - now_ms, 1)
    taken = tx.execute(update(ROUTE_LEASE).where(free | beyond).values(owner=owner, until_ms=until_ms))
    return taken.rowcount == 1


def release(tx: Connection, owner: str) -> None:
    """Give the right to deliver back."""
    tx.execute(update(ROUTE_LEASE).where(ROUTE_LEASE.c.owner == owner).values(until_ms=0))


def _known(tx: Connection, ids: Sequence[str]) -> set[tuple[str, str]]:
    known: set[tuple[str, str]] = set()
    for start in range(0, len(ids), STEP):
        some = DELIVERY.c.alert.in_(ids[start : start + STEP])
        rows = tx.execute(select(DELIVERY.c.route, DELIVERY.c.alert).where(some))
        known.update((row.route, row.alert) for row in rows)
    return known


def _row(delivery: Delivery) -> dict[str, object]:
    told = msgspec.json.encode(delivery.told).decode() if delivery.told else ""
    return msgspec.structs.asdict(delivery) | {"told": told}


def _delivery(row: RowMapping) -> Delivery:
    fields = dict(row)
    told = msgspec.json.decode(fields["told"], type=Told) if fields["told"] else None
    return Delivery(**{**fields, "told": told})
