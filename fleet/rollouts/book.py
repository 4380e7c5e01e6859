"""Rollouts in the store: planned, started, moved on by decisions, each with who, when and why in the trail."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import msgspec
from sqlalchemy import insert, select, update
from sqlalchemy.engine import Connection

from device_agent.contract.errors import BadInput, NotFound
from fleet.models import Model, read_models
from fleet.rollouts.decision import Decision, Evidence, decide
from fleet.rollouts.observed import read_evidence, usual_of
from fleet.rollouts.plan import ENDED, STAGES, Rollout, State, Terms, make_waves
from fleet.schema import ROLLOUT
from fleet.triggers.book import advance, read_held
from fleet.triggers.states import check_name, people
from fleet.triggers.trail import enter, people_needed

MONITOR = "monitor"


def plan(
    tx: Connection,
    *,
    bundle: str,
    back: str,
    sites: Mapping[str, str],
    who: str,
    now_ms: int,
    terms: Terms = Terms(),  # noqa: B008 - frozen
    shares: Sequence[float] = STAGES,
    trigger: str = "",
    text: str = "",
) -> Rollout:
    """Write down who gets a bundle when. `bundle` and `back` are the SHA-256 (or their first digits) of imported
    bundles, the new one and the one that serves; `sites` the site of each device of the group. The same plan again is
    the same rollout.

    Raises:
        NotFound: no such bundle or trigger.
        BadInput: both are one; other classes; no devices; or another rollout has some of them.
    """
    who, models = check_name(who), read_models(tx)
    new, old = (_models_of(models, one) for one in (bundle, back))
    if new[0].bundle_sha256 == old[0].bundle_sha256:
        raise BadInput(f"rollout: {bundle} is the bundle that serves; name another one")
    if [label.name for label in new[0].labels] != [label.name for label in old[0].labels]:
        raise BadInput("rollout: both bundles must have the same classes")
    for model in new + old:
        usual_of(model)
    linked = read_held(tx, trigger).trigger.id if trigger else ""
    digests = [new[0].bundle_sha256 or "", old[0].bundle_sha256 or ""]
    shape = "\n".join([*digests, *sorted(sites), msgspec.json.encode([terms, shares]).decode()])
    made = Rollout(
        id="r-" + hashlib.sha256(shape.encode()).hexdigest()[:14],
        bundle=digests[0],
        back=digests[1],
        models=[model.model for model in new],
        old=[model.model for model in old],
        waves=make_waves(sites, digests[0], shares),
        terms=terms,
        created_by=who,
        created_ms=now_ms,
        trigger=linked,
        text=text[:500],
    )
    for other in read_rollouts(tx):
        if other.id == made.id:
            return other
        if shared := sorted(set(other.devices) & set(sites)):
            raise BadInput(f"rollout {other.id}: is {other.state} and has {shared[0]} already; end it first")
    if tx.scalar(select(ROLLOUT.c.id).where(ROLLOUT.c.id == made.id)):
        raise BadInput(f"rollout {made.id}: this plan has ended before; change its terms or its group to try again")
    tx.execute(insert(ROLLOUT).values(id=made.id, state=made.state, created_ms=now_ms, changed_ms=now_ms,
                                      document=_text(made)))  # fmt: skip
    enter(tx, made.id, who=who, action="plan", before="", after="planned", why=text, now_ms=now_ms)
    return made


def _models_of(models: Mapping[str, Model], digits: str) -> list[Model]:
    found = [one for one in models.values() if len(digits) >= 8 and (one.bundle_sha256 or "").startswith(digits)]
    if len({one.bundle_sha256 for one in found}) != 1:
        known = ", ".join(sorted({one.bundle_sha256[:12] for one in models.values() if one.bundle_sha256}))
        raise NotFound(f"no one bundle {digits[:64]!r}; imported are: {known or 'none'}")
    return sorted(found, key=lambda one: one.model)


def read_rollouts(tx: Connection, *, ended: bool = False) -> list[Rollout]:
    """Rollouts that are under way, newest first; with `ended` all of them."""
    rows = tx.execute(select(ROLLOUT.c.document).order_by(ROLLOUT.c.created_ms.desc(), ROLLOUT.c.id))
    found = [msgspec.json.decode(row.document, type=Rollout) for row in rows]
    return [one for one in found if ended or one.state not in ENDED]


def read_rollout(tx: Connection, rollout_id: str) -> Rollout:
    """One rollout.

    Raises:
        NotFound: there is none.
    """
    text = tx.scalar(select(ROLLOUT.c.document).where(ROLLOUT.c.id == rollout_id))
    if text is None:
        raise NotFound(f"no rollout {rollout_id[:64]!r}; lineside-fleet rollout status")
    return msgspec.json.decode(text, type=Rollout)


def start(tx: Connection, rollout_id: str, *, who: str, why: str = "", now_ms: int) -> Rollout:
    """Begin with the first wave. Where two people are needed, it is not who has planned it that starts it.

    Raises:
        NotFound: no such rollout.
        BadInput: it was started before, or by the same person alone.
    """
    rollout, who = read_rollout(tx, rollout_id), check_name(who)
    if rollout.state != "planned":
        raise BadInput(f"rollout {rollout.id}: is {rollout.state}; only a planned one is started")
    if len(people([rollout.created_by, who])) < people_needed(tx):
        raise BadInput(f"rollout {rollout.id}: {who} has planned it; another person has to start it, with --by")
    changes = {"state": "running", "stage": 0, "started_ms": now_ms, "stage_ms": now_ms}
    return _move(tx, rollout, "start", who, why, now_ms, **changes)


def halt(tx: Connection, rollout_id: str, *, who: str, why: str, now_ms: int) -> Rollout:
    """Stay at the wave that is reached until `resume`. It still goes back if it is worse than its peers.

    Raises:
        NotFound, BadInput: no such rollout; not under way, halted by a person already, or no reason.
    """
    rollout, who = read_rollout(tx, rollout_id), check_name(who)
    if rollout.state not in ("running", "halted") or rollout.halted_by not in ("", MONITOR):
        raise BadInput(f"rollout {rollout.id}: is {rollout.state}; only a running one is halted")
    return _move(tx, rollout, "halt", who, _reason(rollout, why), now_ms, state="halted", halted_by=f"person {who}")


def resume(tx: Connection, rollout_id: str, *, who: str, why: str = "", now_ms: int) -> Rollout:
    """Go on from a halt.

    Raises:
        NotFound, BadInput: no such rollout, or not halted.
    """
    rollout, who = read_rollout(tx, rollout_id), check_name(who)
    if rollout.state != "halted":
        raise BadInput(f"rollout {rollout.id}: is {rollout.state}; only a halted one is resumed")
    return _move(tx, rollout, "resume", who, why, now_ms, state="running", halted_by="")


def roll_back(tx: Connection, rollout_id: str, *, who: str, why: str, now_ms: int) -> Rollout:
    """Back to the bundle of before, on every device that it has reached; for good.

    Raises:
        NotFound, BadInput: no such rollout, not under way, or no reason.
    """
    rollout, who = read_rollout(tx, rollout_id), check_name(who)
    if rollout.state in ENDED:
        raise BadInput(f"rollout {rollout.id}: is {rollout.state.replace('_', ' ')}; it has ended")
    return _move(tx, rollout, "roll-back", who, _reason(rollout, why), now_ms, state="rolled_back", halted_by="")


def step(tx: Connection, rollout_id: str, *, now_ms: int, dry: bool = False) -> tuple[Rollout, Decision, Evidence]:
    """Decide on a rollout from what the store knows now, and do so unless `dry`.

    Raises:
        NotFound, BadInput: no such rollout; one of its models is gone.
    """
    rollout = read_rollout(tx, rollout_id)
    evidence = read_evidence(tx, rollout, now_ms)
    decision = decide(rollout, evidence, now_ms)
    return (rollout if dry else act(tx, rollout, decision, now_ms)), decision, evidence


def act(tx: Connection, rollout: Rollout, decision: Decision, now_ms: int) -> Rollout:
    """Write down what was decided."""
    why = "; ".join(decision.reasons)[:1000]
    match decision.action:
        case "stay":
            return rollout
        case "advance":
            return _move(tx, rollout, "advance", MONITOR, why, now_ms, stage=rollout.stage + 1, stage_ms=now_ms)
        case "finish":
            return _move(tx, rollout, "finish", MONITOR, why, now_ms, state="done")
        case "roll back":
            return _move(tx, rollout, "roll-back", MONITOR, why, now_ms, state="rolled_back", halted_by="")
        case "halt":
            return _move(tx, rollout, "halt", MONITOR, why, now_ms, state="halted", halted_by=MONITOR)
        case "resume":
            return _move(tx, rollout, "resume", MONITOR, why, now_ms, state="running", halted_by="")


def _reason(rollout: Rollout, why: str) -> str:
    if not why.strip():
        raise BadInput(f"rollout {rollout.id}: say why, with --why")
    return why


def _move(tx: Connection, rollout: Rollout, action: str, who: str, why: str, now_ms: int, **changes: object) -> Rollout:
    """Write a change, unless somebody else has changed it meanwhile; a trigger that it belongs to moves with it."""
    moved = msgspec.structs.replace(rollout, **changes)
    same = (ROLLOUT.c.id == rollout.id) & (ROLLOUT.c.document == _text(rollout))
    values = {"state": moved.state, "changed_ms": now_ms, "document": _text(moved)}
    if tx.execute(update(ROLLOUT).where(same).values(**values)).rowcount != 1:
        raise BadInput(f"rollout {rollout.id}: somebody else has changed it meanwhile; look again")
    before, after = _say(rollout), _say(moved)
    enter(tx, rollout.id, who=who, action=action, before=before, after=after, why=why, now_ms=now_ms)
    ends: dict[State, str] = {"done": "done", "rolled_back": "rolled_back"}
    if rollout.trigger and moved.state in ends:
        _end_trigger(tx, moved, ends[moved.state], who, why, now_ms)
    return moved


def _end_trigger(tx: Connection, rollout: Rollout, to: str, who: str, why: str, now_ms: int) -> None:
    if read_held(tx, rollout.trigger).trigger.state == "canary":
        advance(tx, rollout.trigger, to, who=who, why=f"rollout {rollout.id}: {why}"[:1000], now_ms=now_ms)


def _say(rollout: Rollout) -> str:
    """State and wave in 16 characters."""
    return f"{rollout.state} {rollout.stage + 1}" if rollout.state in ("running", "halted") else rollout.state


def _text(rollout: Rollout) -> str:
    return msgspec.json.encode(rollout).decode()
