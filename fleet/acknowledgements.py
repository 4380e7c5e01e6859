"""What people said to alerts: that they take note, and whether there was something to be found."""

from __future__ import annotations

import msgspec
from sqlalchemy import select
from sqlalchemy.engine import Connection

from device_agent.contract.errors import BadInput, NotFound
from fleet.alert_store import find_alerts
from fleet.schema import ACKNOWLEDGEMENT, JUDGEMENT
from fleet.store import upsert

STEP = 500


class Acknowledgement(msgspec.Struct, frozen=True):
    """Who took note of an alert, when (wall-clock ms) and with what words."""

    alert: str
    at_ms: int
    who: str
    note: str


class Judgement(msgspec.Struct, frozen=True):
    """Who found that there was (`real`) or was not something to be found where an alert said so."""

    alert: str
    at_ms: int
    who: str
    real: bool
    note: str


def acknowledge(tx: Connection, alert: str, *, who: str, note: str, now_ms: int) -> None:
    """Say that somebody has taken note of an open alert: no more escalation, no more reminders.

    Raises:
        NotFound: no such open alert. BadInput: a name or note that is too long.
    """
    known = find_alerts(tx, [alert])
    if alert not in known or known[alert].closed_ms is not None:
        raise NotFound(f"no open alert {alert!r}; lineside-fleet alerts lists them")
    _check(who, note)
    upsert(tx, ACKNOWLEDGEMENT, [{"alert": alert, "at_ms": now_ms, "who": who, "note": note}])


def judge(tx: Connection, alert: str, *, real: bool, who: str, note: str, now_ms: int) -> None:
    """Say whether an alert, open or closed, was true; a later word takes the place of an earlier one.

    Raises:
        NotFound: no such alert. BadInput: a name or note that is too long.
    """
    if alert not in find_alerts(tx, [alert]):
        raise NotFound(f"no alert {alert!r}; lineside-fleet alerts --all lists them")
    _check(who, note)
    upsert(tx, JUDGEMENT, [{"alert": alert, "at_ms": now_ms, "who": who, "real": real, "note": note}])


def read_acknowledgements(tx: Connection, alerts: list[str]) -> dict[str, Acknowledgement]:
    """Acknowledgements of alerts by their ids."""
    found: dict[str, Acknowledgement] = {}
    for start in range(0, len(alerts), STEP):
        some = ACKNOWLEDGEMENT.c.alert.in_(alerts[start : start + STEP])
        found.update((row["alert"], Acknowledgement(**row))
                     for row in tx.execute(select(ACKNOWLEDGEMENT).where(some)).mappings())  # fmt: skip
    return found


def read_judgements(tx: Connection) -> dict[str, Judgement]:
    """Every judgement, by the id of its alert."""
    return {row["alert"]: Judgement(**row) for row in tx.execute(select(JUDGEMENT)).mappings()}


def _check(who: str, note: str) -> None:
    if not 0 < len(who) <= 64 or len(note) > 1000:
        raise BadInput("who must be 1 to 64 characters, a note at most 1000")
