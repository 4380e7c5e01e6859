"""Alerts as people look at them: with who took note, what silences them, and which routes were told."""

from __future__ import annotations

import msgspec
from sqlalchemy.engine import Connection

from device_agent.contract.alert import Alert
from fleet.acknowledgements import read_acknowledgements, read_judgements
from fleet.alert_store import read_alerts
from fleet.matching import read_facts
from fleet.routes.outbox import Delivery, read_deliveries
from fleet.silences import find_silence, read_silences
from fleet.wording import say_time


class RouteWord(msgspec.Struct, frozen=True):
    """What a route was told of an alert last ("open", "covered", "closed", "" for nothing), when in wall-clock ms, and
    what holds up the next message."""

    route: str
    told: str
    told_ms: int | None
    trouble: str


class AlertView(Alert, frozen=True, kw_only=True):
    """An alert and what people have to do with it. `judged`: "true", "false" or ""."""

    acknowledged_by: str = ""
    acknowledged_note: str = ""
    silenced_by: str = ""
    silenced_until_ms: int | None = None
    judged: str = ""
    routes: list[RouteWord] = []


def read_alert_views(tx: Connection, now_ms: int, *, closed: bool = False) -> list[AlertView]:
    """Open alerts, newest first; with `closed` also those that were."""
    alerts = read_alerts(tx, closed=closed)
    ids = [alert.id for alert in alerts]
    notes, judged, deliveries = read_acknowledgements(tx, ids), read_judgements(tx), read_deliveries(tx, ids)
    silences, facts = read_silences(tx), read_facts(tx, alerts)
    views = []
    for alert in alerts:
        silence = find_silence(silences, facts[alert.id], now_ms) if alert.closed_ms is None else None
        note, verdict = notes.get(alert.id), judged.get(alert.id)
        views.append(
            AlertView(
                **msgspec.structs.asdict(alert),
                acknowledged_by=note.who if note else "",
                acknowledged_note=note.note if note else "",
                silenced_by=silence[0].id if silence else "",
                silenced_until_ms=silence[1] if silence else None,
                judged=str(verdict.real).lower() if verdict else "",
                routes=[_word(delivery) for delivery in deliveries[alert.id]],
            )
        )
    return views


def say_state(view: AlertView) -> str:
    """How an alert stands, on one line."""
    parts = [f"closed: {view.closed_reason}" if view.closed_ms is not None else "open"]
    if view.inhibited_by:
        parts.append(f"covered by {view.inhibited_by}")
    if view.acknowledged_by:
        parts.append(
            f"{view.acknowledged_by} takes note" + (f": {view.acknowledged_note}" if view.acknowledged_note else "")
        )
    if view.silenced_until_ms is not None:
        parts.append(f"silenced by {view.silenced_by} until {say_time(view.silenced_until_ms)}")
    if view.judged:
        parts.append(f"judged {view.judged}")
    told = [word.route for word in view.routes if word.told_ms is not None]
    if told:
        parts.append(f"told: {', '.join(told)}")
    parts += [f"{word.route}: {word.trouble}" for word in view.routes if word.trouble]
    return "; ".join(parts)


def _word(delivery: Delivery) -> RouteWord:
    failing = delivery.failing_ms is not None and not delivery.given_up_ms
    trouble = f"not taken since {say_time(delivery.failing_ms or 0)} ({delivery.error})" if failing else delivery.held
    return RouteWord(delivery.route, delivery.told.state if delivery.told else "", delivery.told_ms, trouble)
