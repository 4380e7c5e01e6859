"""How each route does, as the store knows it: for the dispatcher after a restart, and for people."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from fleet.schema import DELIVERY, ROUTE_STATE
from fleet.store import upsert
from fleet.wording import say_time


class RouteState(msgspec.Struct, frozen=True, kw_only=True):
    """A route: messages that it took, since when it fails and why, and when it is tried next; wall-clock ms."""

    route: str
    kind: str
    sent: int = 0
    sent_ms: int | None = None
    failures: int = 0
    failing_ms: int | None = None
    error: str = ""
    next_ms: int | None = None


class RouteStatus(RouteState, frozen=True, kw_only=True):
    """The same, with how many alerts wait for it, how many of these are held back, and how many were given up."""

    waiting: int = 0
    held: int = 0
    given_up: int = 0


def read_states(tx: Connection) -> dict[str, RouteState]:
    """Every route that ever had something to do, by name."""
    return {row["route"]: RouteState(**row) for row in tx.execute(select(ROUTE_STATE)).mappings()}


def write_state(tx: Connection, state: RouteState) -> None:
    """Store how a route does."""
    upsert(tx, ROUTE_STATE, [msgspec.structs.asdict(state)])


def read_route_status(tx: Connection) -> list[RouteStatus]:
    """Every route that has or had something to do, by name."""
    states = read_states(tx)
    held = (DELIVERY.c.held != "") & DELIVERY.c.due_ms.is_not(None)
    counts = {
        "waiting": DELIVERY.c.due_ms.is_not(None) & (DELIVERY.c.held == ""),
        "held": held,
        "given_up": DELIVERY.c.given_up_ms.is_not(None),
    }
    found: dict[str, dict[str, Any]] = {name: {} for name in states}
    for field, condition in counts.items():
        asked = select(DELIVERY.c.route, func.count()).where(condition).group_by(DELIVERY.c.route)
        for route, count in tx.execute(asked):
            found.setdefault(route, {})[field] = int(count)
    return [
        RouteStatus(**msgspec.structs.asdict(states.get(name, RouteState(route=name, kind=""))), **fields)
        for name, fields in sorted(found.items())
    ]


def say_route_troubles(routes: list[RouteStatus]) -> list[str]:
    """One line for each route that fails."""
    return [
        f"route {route.route} takes no alerts since {say_time(route.failing_ms)}: {route.error} ({route.waiting} wait)"
        for route in routes
        if route.failing_ms is not None
    ]
