"""The audit trail of triggers and rollouts, and the rule of two people, in the store."""

from __future__ import annotations

import msgspec
from sqlalchemy import func, insert, select
from sqlalchemy.engine import Connection

from device_agent.contract.errors import BadInput
from fleet.schema import APPROVAL, META
from fleet.store import upsert
from fleet.triggers.states import check_name

TWO_PERSON = "two_person"
POLICY = "policy"
"""Key of the setting in the table `meta`, and the subject under which its changes stand in the trail."""
LONGEST_WHY = 1000


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that somebody did to a trigger or a rollout at `at_ms` (wall-clock ms)."""

    subject: str
    number: int
    at_ms: int
    who: str
    action: str
    before: str
    after: str
    why: str


def enter(
    tx: Connection, subject: str, *, who: str, action: str, before: str, after: str, why: str, now_ms: int
) -> None:
    """Add an entry. The caller has written to the subject's row before in `tx`, so that entries have an order.

    Raises:
        BadInput: no name, or a reason over 1,000 characters.
    """
    who = check_name(who)
    if len(why) > LONGEST_WHY:
        raise BadInput(f"why: at most {LONGEST_WHY} characters, got {len(why)}")
    last = tx.scalar(select(func.max(APPROVAL.c.number)).where(APPROVAL.c.subject == subject))
    tx.execute(insert(APPROVAL).values(subject=subject, number=(last or 0) + 1, at_ms=now_ms, who=who, action=action,
                                       before=before, after=after, why=why))  # fmt: skip


def read_trail(tx: Connection, subject: str) -> list[Entry]:
    """Everything that was done to a trigger or rollout, in order."""
    rows = tx.execute(select(APPROVAL).where(APPROVAL.c.subject == subject).order_by(APPROVAL.c.number)).mappings()
    return [Entry(**row) for row in rows]


def people_needed(tx: Connection) -> int:
    """How many people have to agree to a new trigger: 1, or 2 with the rule of two people."""
    return 2 if tx.scalar(select(META.c.value).where(META.c.key == TWO_PERSON)) == "1" else 1


def set_two_person(tx: Connection, wanted: bool, *, who: str, why: str, now_ms: int) -> None:
    """Turn the rule of two people on or off, from the next trigger on; one that was opened under it stays under it.

    Raises:
        BadInput: no name; or turned off without a reason.
    """
    if not wanted and not why.strip():
        raise BadInput("two-person: say why it is turned off, with --why")
    before = str(people_needed(tx))
    upsert(tx, META, [{"key": TWO_PERSON, "value": "1" if wanted else "0"}])
    after = "2" if wanted else "1"
    enter(tx, POLICY, who=who, action="two-person", before=before, after=after, why=why, now_ms=now_ms)
