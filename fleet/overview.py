"""Which devices of a fleet to show, found by the database: a page of a hundred thousand reads fifty of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import msgspec
from sqlalchemy import BigInteger, ColumnElement, Select, case, func, literal, select
from sqlalchemy.engine import Connection

from device_agent.contract.alert import SEVERITIES
from fleet.registry import WILL_DELAY_MS, Device, Health, Heard
from fleet.schema import DEVICE

Order = Literal["place", "urgency", "device", "seen"]
URGENCY: tuple[Health, ...] = ("offline", "silent", "never", "online")
CHUNK = 500
MOST_CONCERNED = 5_000
"""Devices named by open alerts that are put first; of more only so many."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """Which devices, in which order, and how many from where on; `limit` None: all. `search` is a part of the name,
    `alerted` leaves out those that no open alert names."""

    search: str = ""
    site: str = ""
    health: Health | None = None
    alerted: bool = False
    order: Order = "place"
    limit: int | None = None
    offset: int = 0


class Chosen(NamedTuple):
    """The devices asked for, and how many there would be without a limit."""

    devices: list[Device]
    matching: int


def health_of(heard: Heard) -> ColumnElement[str]:
    """`Device.health` as the database finds it."""
    state_ms, report_ms = func.coalesce(DEVICE.c.state_ms, 0), DEVICE.c.last_report_ms
    interval_ms = func.coalesce(func.nullif(DEVICE.c.interval_ms, 0), _number(60_000))
    since_state_ms = case((state_ms > heard.until_ms, state_ms - _number(heard.until_ms)),
                          else_=_number(heard.until_ms) - state_ms)  # fmt: skip
    gone = DEVICE.c.online.is_(False) & (since_state_ms > WILL_DELAY_MS) & (state_ms >= func.coalesce(report_ms, 0))
    heard_ms = case((report_ms > heard.from_ms, report_ms), else_=_number(heard.from_ms))
    deaf_ms = case((report_ms < heard.deaf_ms, _number(heard.deaf_ms) - report_ms), else_=_number(0))
    silence_ms = case((report_ms >= heard.until_ms, report_ms - _number(heard.until_ms)),
                      else_=_number(heard.until_ms) - heard_ms + deaf_ms)  # fmt: skip
    return case(
        (gone, "offline"),
        (report_ms.is_(None) & DEVICE.c.online.is_(None), "never"),
        (report_ms.is_(None), "online"),
        ((silence_ms - _number(WILL_DELAY_MS)) / 3.0 > interval_ms, "silent"),  # three intervals may be over 2**63
        else_="online",
    )


def count_places(tx: Connection, heard: Heard) -> dict[str, dict[str, int]]:
    """Devices of each site by health."""
    health = health_of(heard).label("health")
    found: dict[str, dict[str, int]] = {}
    for site, state, count in tx.execute(select(DEVICE.c.site, health, func.count()).group_by(DEVICE.c.site, health)):
        found.setdefault(site, {})[state] = int(count)
    return found


def choose(
    tx: Connection, asked: Asked, heard: Heard, concerned: Mapping[str, str], places: Mapping[str, Mapping[str, int]]
) -> Chosen:
    """The devices asked for; `concerned` are those that open alerts name, with the worst severity of each, `places`
    what `count_places` found."""
    clauses = _clauses(asked, heard)
    names = sorted(concerned, key=lambda name: (-SEVERITIES.index(concerned[name]), name))
    first = _named(tx, clauses, names[:MOST_CONCERNED])
    if asked.alerted:
        return Chosen(_sorted(first, asked, concerned, heard)[_slice(asked)], len(first))
    if asked.search:
        matching = int(tx.scalar(select(func.count()).select_from(DEVICE).where(*clauses)) or 0)
    else:
        matching = sum(_by_health(asked, places).values())
    if asked.order != "urgency":
        return Chosen(_devices(tx, _ordered(select(DEVICE).where(*clauses), asked.order), asked), matching)
    first = _sorted(first, asked, concerned, heard)
    shown = first[_slice(asked)]
    left = None if asked.limit is None else asked.limit - len(shown)
    if left is None or left > 0:
        rest = msgspec.structs.replace(asked, limit=left, offset=max(0, asked.offset - len(first)))
        shown += _less_urgent(tx, rest, heard, first, places)
    return Chosen(shown, matching)


def _less_urgent(
    tx: Connection, asked: Asked, heard: Heard, without: list[Device], places: Mapping[str, Mapping[str, int]]
) -> list[Device]:
    """Devices that no alert names, by health and then by place: state after state, each in the order of the index, as
    to sort a hundred thousand takes longer than to find fifty."""
    others = select(DEVICE).where(*_clauses(asked, heard))
    if without:
        others = others.where(DEVICE.c.device.not_in([one.device for one in without]))
    place = (DEVICE.c.site, DEVICE.c.line, DEVICE.c.device)
    health = health_of(heard)
    if asked.search or asked.limit is None:
        rank = case(*((health == one, at) for at, one in enumerate(URGENCY)), else_=len(URGENCY))
        return _devices(tx, others.order_by(rank, *place), asked)
    counts = Counter(_by_health(asked, places)) - Counter(one.health(heard) for one in without)
    found: list[Device] = []
    offset, left = asked.offset, asked.limit
    for state in URGENCY:
        if left > 0 and offset < counts[state]:
            part = msgspec.structs.replace(asked, limit=left, offset=offset)
            found += _devices(tx, others.where(health == state).order_by(*place), part)
            left = asked.limit - len(found)
        offset = max(0, offset - counts[state])
    return found


def _by_health(asked: Asked, places: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """Devices of the site and state that are asked for, by state."""
    chosen = [places.get(asked.site, {})] if asked.site else list(places.values())
    states = [asked.health] if asked.health else list(URGENCY)
    return {state: sum(one.get(state, 0) for one in chosen) for state in states}


def find_devices(tx: Connection, names: list[str]) -> list[Device]:
    """Devices by their names, in that order; unknown ones are left out."""
    return _named(tx, [], names)


def _clauses(asked: Asked, heard: Heard) -> list[ColumnElement[bool]]:
    clauses: list[ColumnElement[bool]] = []
    if asked.search:
        clauses.append(DEVICE.c.device.contains(asked.search.strip().lower(), autoescape=True))
    if asked.site:
        clauses.append(DEVICE.c.site == asked.site)
    if asked.health:
        clauses.append(health_of(heard) == asked.health)
    return clauses


def _named(tx: Connection, clauses: list[ColumnElement[bool]], names: list[str]) -> list[Device]:
    found: dict[str, Device] = {}
    for start in range(0, len(names), CHUNK):
        part = select(DEVICE).where(DEVICE.c.device.in_(names[start : start + CHUNK]), *clauses)
        found |= {row["device"]: Device(**row) for row in tx.execute(part).mappings()}
    return [found[name] for name in names if name in found]


def _sorted(devices: list[Device], asked: Asked, concerned: Mapping[str, str], heard: Heard) -> list[Device]:
    """As `_ordered` does, of devices that are at hand."""
    keys: dict[str, Any] = {
        "place": lambda one: (one.site, one.line, one.device),
        "device": lambda one: one.device,
        "seen": lambda one: (one.last_report_ms or 0, one.device),
        "urgency": lambda one: (
            -SEVERITIES.index(concerned[one.device]),
            URGENCY.index(one.health(heard)),
            one.site,
            one.line,
            one.device,
        ),
    }
    return sorted(devices, key=keys[asked.order])


def _ordered(query: Select[Any], order: Order) -> Select[Any]:
    if order == "device":
        return query.order_by(DEVICE.c.device)
    if order == "seen":
        return query.order_by(func.coalesce(DEVICE.c.last_report_ms, 0), DEVICE.c.device)
    return query.order_by(DEVICE.c.site, DEVICE.c.line, DEVICE.c.device)


def _devices(tx: Connection, query: Select[Any], asked: Asked) -> list[Device]:
    if asked.limit is not None:
        query = query.limit(asked.limit).offset(asked.offset)
    return [Device(**row) for row in tx.execute(query).mappings()]


def _slice(asked: Asked) -> slice:
    return slice(asked.offset, None if asked.limit is None else asked.offset + asked.limit)


def _number(value: int) -> ColumnElement[int]:
    return literal(value, BigInteger)
