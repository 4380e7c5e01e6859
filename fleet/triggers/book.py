"""Triggers in the store: opened once each, moved by legal moves alone, each with who, when and why."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
from sqlalchemy import insert, select, update
from sqlalchemy.engine import Connection, Row

from device_agent.contract.alert import TRIGGER_SCHEMA, Evidence, Trigger, TriggerResult
from device_agent.contract.errors import BadInput, NotFound
from fleet.alert_store import find_alerts
from fleet.models import read_models
from fleet.schema import TRIGGER
from fleet.triggers.evidence import check_grounds, trigger_id
from fleet.triggers.states import ENDED, check_move, check_name, people, same_person
from fleet.triggers.trail import enter, people_needed, read_trail

DAY_MS = 86_400_000


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """What asks for a retraining of `model` (id). `rule`: name of the business rule that does. The window of the
    evidence (wall-clock ms) tells one request from the next; a person's is the day, UTC."""

    model: str
    reason: str
    text: str = ""
    rule: str = ""
    alerts: list[str] = []
    evidence: list[Evidence] = []
    from_ms: int = 0
    to_ms: int = 0
    suggested: dict[str, str | int | float] = {}


class Opened(NamedTuple):
    """A trigger, and whether it is `new`; else it was asked for before, or one for the same is still under way."""

    trigger: Trigger
    new: bool


class Held(NamedTuple):
    """A trigger as the store has it: how many people `needed` to approve, who did, and the new model's id, if known."""

    trigger: Trigger
    needed: int
    approved: list[str]
    candidate: str


def open_trigger(tx: Connection, draft: Draft, *, who: str, now_ms: int) -> Opened:
    """The trigger of a draft. The same evidence asks but once, and while a trigger of a model for one reason is under
    way, another is not opened.

    Raises:
        NotFound: a model or an alert that the store does not have.
        BadInput: it rests on a statistic alone, or names nobody.
    """
    who, models = check_name(who), read_models(tx)
    if draft.model not in models:
        raise NotFound(f"no model {draft.model!r}; known are: {', '.join(sorted(models)[:20]) or 'none'}")
    trigger = _trigger(tx, draft, who, now_ms, models[draft.model].bundle_sha256 or "")
    check_grounds(trigger)
    for held in _read(tx, TRIGGER.c.model == draft.model):
        again = (held.reason, held.rule) == (trigger.reason, trigger.rule) and (
            draft.reason != "person" or held.text == trigger.text
        )
        if held.id == trigger.id or (again and held.state not in ENDED):
            return Opened(held, new=False)
    row = {"id": trigger.id, "model": trigger.model, "state": "open", "needed": people_needed(tx), "candidate": ""}
    tx.execute(insert(TRIGGER).values(**row, created_ms=now_ms, changed_ms=now_ms, document=_text(trigger)))
    enter(tx, trigger.id, who=who, action="create", before="", after="open", why=trigger.text, now_ms=now_ms)
    return Opened(trigger, new=True)


def _trigger(tx: Connection, draft: Draft, who: str, now_ms: int, bundle_sha256: str) -> Trigger:
    alerts = find_alerts(tx, draft.alerts)
    if unknown := [alert for alert in draft.alerts if alert not in alerts]:
        raise NotFound(f"no alert {unknown[0]!r}; lineside-fleet alerts --all lists them")
    from_ms, to_ms = draft.from_ms, draft.to_ms
    if draft.reason == "person" and not to_ms:
        from_ms = now_ms // DAY_MS * DAY_MS
        to_ms = from_ms + DAY_MS
    what = draft.rule or (draft.text if draft.reason == "person" else "")
    fields = {
        "schema": TRIGGER_SCHEMA,
        "id": trigger_id(draft.model, draft.reason, what, from_ms, to_ms),
        "model": draft.model,
        "reason": draft.reason,
        "created_ms": now_ms,
        "alerts": sorted(set(draft.alerts)),
        "text": draft.text,
        "bundle_sha256": bundle_sha256,
        "created_by": who,
        "rule": draft.rule,
        "from_ms": from_ms,
        "to_ms": to_ms,
        "devices": sorted({device for alert in alerts.values() for device in alert.devices}),
        "evidence": draft.evidence,
        "suggested": draft.suggested,
    }
    try:
        return msgspec.convert(fields, Trigger)
    except msgspec.ValidationError as error:
        raise BadInput(f"trigger for {draft.model}: {str(error).lower()}") from None


def read_triggers(tx: Connection, *, ended: bool = True) -> list[Trigger]:
    """Triggers, newest first; without `ended` those that are under way."""
    return [one for one in _read(tx, TRIGGER.c.id != "") if ended or one.state not in ENDED]


def read_held(tx: Connection, trigger_id_: str) -> Held:
    """One trigger with its approvals; the first digits of its id are enough where no other begins so.

    Raises:
        NotFound: no such trigger, or several.
    """
    begins = TRIGGER.c.id.startswith(trigger_id_, autoescape=True)
    rows = [row for row in tx.execute(select(TRIGGER).where(begins)) if len(trigger_id_) >= 4 or row.id == trigger_id_]
    rows = [row for row in rows if row.id == trigger_id_] or rows
    if len(rows) != 1:
        raise NotFound(f"{'several triggers' if rows else 'no trigger'} {trigger_id_!r}; lineside-fleet trigger list")
    trigger = _of(rows[0])
    return Held(trigger, rows[0].needed, approvals(tx, trigger), rows[0].candidate)


def approvals(tx: Connection, trigger: Trigger) -> list[str]:
    """Different people who stand behind a trigger: those who approved it, and who asked for it as a person."""
    said = [one for one in read_trail(tx, trigger.id) if one.action == "approve"]
    asked = [trigger.created_by] if trigger.reason == "person" else []
    return people([*asked, *(one.who for one in said)])


def approve(tx: Connection, trigger_id_: str, *, who: str, why: str = "", now_ms: int) -> Held:
    """One more person stands behind a trigger. With as many as are needed it goes on to labelling.

    Raises:
        NotFound: no such trigger.
        BadInput: it is approved already; or, where two people are needed, this one counts already.
    """
    held = read_held(tx, trigger_id_)
    trigger, who = held.trigger, check_name(who)
    if trigger.state != "open":
        raise BadInput(f"trigger {trigger.id}: is {trigger.state}; only an open one is approved")
    _touch(tx, trigger, "open", now_ms)
    before = approvals(tx, trigger)
    if held.needed > 1 and same_person(who) in map(same_person, before):
        raise BadInput(f"trigger {trigger.id}: {who} counts already; it needs {held.needed} different people")
    after = "labelling" if len(people([*before, who])) >= held.needed else "open"
    if after != "open":
        _touch(tx, trigger, after, now_ms)
    enter(tx, trigger.id, who=who, action="approve", before="open", after=after, why=why, now_ms=now_ms)
    return read_held(tx, trigger.id)


def advance(
    tx: Connection, trigger_id_: str, to: str, *, who: str, why: str = "", candidate: str = "", now_ms: int
) -> Held:
    """Move a trigger on. `candidate`: id of the new model, from shadow on.

    Raises:
        NotFound: no such trigger.
        BadInput: no legal move, approvals are missing, or an end without a reason.
    """
    held = read_held(tx, trigger_id_)
    trigger, who = held.trigger, check_name(who)
    check_move(f"trigger {trigger.id}", trigger.state, to)
    if to in ("rejected", "rolled_back") and not why.strip():
        raise BadInput(f"trigger {trigger.id}: say why it is {to.replace('_', ' ')}, with --why")
    if trigger.state == "open" and to == "labelling" and len(held.approved) < held.needed:
        wanted = "two different people" if held.needed > 1 else "a person"
        raise BadInput(
            f"trigger {trigger.id}: needs the approval of {wanted}, has {', '.join(held.approved) or 'none'}; "
            f"lineside-fleet trigger approve {trigger.id}"
        )
    _touch(tx, trigger, to, now_ms, candidate)
    action = {"rejected": "reject", "rolled_back": "roll-back"}.get(to, "advance")
    enter(tx, trigger.id, who=who, action=action, before=trigger.state, after=to, why=why, now_ms=now_ms)
    return read_held(tx, trigger.id)


def take_result(tx: Connection, result: TriggerResult, *, who: str, now_ms: int) -> tuple[Held, bool]:
    """What lineside train made of a trigger: trained, it goes on to shadow; failed, that is noted. Whether anything
    changed: a result that was taken before changes nothing.

    Raises:
        NotFound: no such trigger.
        BadInput: it is of another model, or in no state in which it is trained.
    """
    held = read_held(tx, result.trigger)
    trigger = held.trigger
    if result.trigger != trigger.id or result.model != trigger.model:
        raise BadInput(f"result of trigger {result.trigger}: is of model {result.model}, not {trigger.model}")
    said = f"run {result.run}: {result.state}; " + (result.text or _figures(result))
    known = any(one.action == "result" and one.why == said[:1000] for one in read_trail(tx, trigger.id))
    if known and (result.state == "failed" or trigger.state != "training"):
        return held, False
    if trigger.state != "training":
        raise BadInput(f"trigger {trigger.id}: is {trigger.state}; a result is taken while it is training")
    after = "shadow" if result.state == "trained" else "training"
    _touch(tx, trigger, after, now_ms)
    enter(tx, trigger.id, who=who, action="result", before="training", after=after, why=said[:1000], now_ms=now_ms)
    return read_held(tx, trigger.id), True


def _figures(result: TriggerResult) -> str:
    shown = ", ".join(f"{name} {value:.4f}" for name, value in sorted(result.metrics.items())[:6])
    return f"data {result.data_sha256[:12]}, recipe {result.recipe_sha256[:12]}, {shown or 'no figures'}"


def set_samples(tx: Connection, trigger: Trigger, samples: str, now_ms: int) -> Trigger:
    """Note where the labelled samples of a trigger are."""
    noted = msgspec.structs.replace(trigger, samples=samples)
    row = {"document": _text(noted), "changed_ms": now_ms}
    tx.execute(update(TRIGGER).where(TRIGGER.c.id == trigger.id).values(**row))
    return noted


def _touch(tx: Connection, trigger: Trigger, after: str, now_ms: int, candidate: str = "") -> None:
    """Write the state, unless somebody else has moved it meanwhile."""
    values = {"state": after, "changed_ms": now_ms, **({"candidate": candidate} if candidate else {})}
    same = (TRIGGER.c.id == trigger.id) & (TRIGGER.c.state == trigger.state)
    if tx.execute(update(TRIGGER).where(same).values(**values)).rowcount != 1:
        raise BadInput(f"trigger {trigger.id}: somebody else has moved it meanwhile; look again")


def _read(tx: Connection, which: Any) -> list[Trigger]:
    return [
        _of(row) for row in tx.execute(select(TRIGGER).where(which).order_by(TRIGGER.c.created_ms.desc(), TRIGGER.c.id))
    ]


def _of(row: Row[Any]) -> Trigger:
    return msgspec.structs.replace(msgspec.json.decode(row.document, type=Trigger), state=row.state)


def _text(trigger: Trigger) -> str:
    return msgspec.json.encode(trigger).decode()


__all__ = [
    "Draft", "Held", "Opened", "advance", "approvals", "approve", "open_trigger", "read_held", "read_triggers",
    "set_samples", "take_result",
]  # fmt: skip
