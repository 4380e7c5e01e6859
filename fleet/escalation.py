"""What a route is to be told of an alert next, and when: the one place where silence, escalation, reminders and
closing meet. Pure: what was told and how things are now go in, one step comes out.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

import msgspec

from device_agent.contract.alert import Alert, Severity
from fleet.drafts import worse
from fleet.wording import kind_of_cause

LOOK_MS = 15_000
What = Literal["opened", "raised", "explained", "inhibited", "reminder", "closed"]


class Policy(Protocol):
    """How a route wants to be told. `after_ms`: only of alerts of which nobody has taken note so long; `repeat_ms`:
    again until somebody does, 0 never; `resend_ms`: again while it is open, for receivers that forget; `machine`:
    changes of the cause and covering too."""

    @property
    def after_ms(self) -> int: ...
    @property
    def repeat_ms(self) -> int: ...
    @property
    def resend_ms(self) -> int: ...
    @property
    def machine(self) -> bool: ...


class Told(msgspec.Struct, frozen=True):
    """What a route knows of an alert."""

    state: Literal["open", "covered", "closed"]
    severity: Severity
    cause: str = ""


class Send(NamedTuple):
    """Tell it now."""

    what: What


class Wait(NamedTuple):
    """Look again at `until_ms`; `why` is for people, empty where nothing holds it up."""

    until_ms: int
    why: str = ""


class Rest(NamedTuple):
    """Nothing to do until the alert changes; `why` says what was never told."""

    why: str = ""


Step = Send | Wait | Rest


def told_of(alert: Alert) -> Told:
    """What a route knows once it was told of the alert as it is now."""
    state: Literal["open", "covered", "closed"] = "covered" if alert.inhibited_by else "open"
    return Told("closed" if alert.closed_ms is not None else state, alert.severity, kind_of_cause(alert.cause))


def next_step(
    alert: Alert,
    told: Told | None,
    told_ms: int | None,
    policy: Policy,
    *,
    acknowledged: bool,
    silent_until_ms: int | None,
    silenced_before: bool,
    now_ms: int,
) -> Step:
    """What to do about one alert on one route.

    Args:
        told: what the route knows, None before it was told anything; told_ms: since when, wall-clock ms.
        acknowledged: somebody has taken note.
        silent_until_ms: when the silence ends that the alert falls under, None where there is none.
        silenced_before: it was held back by a silence when it was last looked at.
        now_ms: wall-clock ms.
    """
    if alert.closed_ms is not None:
        return _of_closed(alert, told, policy, silenced_before=silenced_before or silent_until_ms is not None)
    if alert.inhibited_by:
        again = policy.machine and told is not None and told.state == "open"
        return Send("inhibited") if again else Rest(f"covered by {alert.inhibited_by}")
    if silent_until_ms is not None:
        return Wait(min(silent_until_ms, now_ms + LOOK_MS), "silenced")
    if told is None or told.state != "open" or worse(alert.severity, told.severity):
        return _of_news(alert, told, policy, acknowledged=acknowledged, now_ms=now_ms)
    if policy.machine and kind_of_cause(alert.cause) != told.cause:
        return Send("explained")
    every_ms = policy.resend_ms or (0 if acknowledged else policy.repeat_ms)
    if not every_ms:
        return Rest()
    due_ms = (told_ms or 0) + every_ms
    return Send("reminder") if now_ms >= due_ms else Wait(min(due_ms, now_ms + every_ms))


def _of_closed(alert: Alert, told: Told | None, policy: Policy, *, silenced_before: bool) -> Step:
    if told is not None:
        return Rest() if told.state == "closed" else Send("closed")
    if silenced_before:
        return Rest("closed in silence")
    return Rest() if policy.after_ms or alert.inhibited_by else Send("closed")


def _of_news(alert: Alert, told: Told | None, policy: Policy, *, acknowledged: bool, now_ms: int) -> Step:
    if policy.after_ms and told is None:
        if acknowledged:
            return Rest("somebody has taken note")
        start_ms = alert.paged_ms if alert.paged_ms is not None else alert.opened_ms
        if now_ms < start_ms + policy.after_ms:
            return Wait(start_ms + policy.after_ms, "escalates later")
    return Send("opened" if told is None else "raised")
