"""What becomes of a rollout: a pure function of what is known of it."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import msgspec

from fleet.rollouts.plan import ENDED, Rollout

HOUR_MS = 3_600_000
Action = Literal["stay", "advance", "finish", "roll back", "halt", "resume"]


class Evidence(NamedTuple):
    """What is known of the devices that are to have the bundle. `trouble`: why the monitor hears nobody, empty while
    all is well. `running` of them report and run it; `independent` frames and `hours` of them since the wave began;
    `log_e`: natural log of the highest e-value that they are worse than their peers, since the start. `critical`: what
    is wrong with one of them beyond doubt, such as golden parts that it fails."""

    trouble: str = ""
    running: int = 0
    independent: float = 0.0
    hours: int = 0
    log_e: float = 0.0
    critical: tuple[str, ...] = ()


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done, why, and the bundle (SHA-256) that each device of the rollout is to have then; devices that
    it has not reached are not named."""

    action: Action
    reasons: list[str]
    desired: list[tuple[str, str]]


def warn_at(rollout: Rollout) -> float:
    """Natural log of the e-value at which a rollout goes back: a false roll-back within `watched` hours has a
    probability of `alpha` at most.

    >>> from fleet.rollouts.plan import Terms
    >>> made = Rollout(id="r", bundle="b", back="a", models=[], old=[], waves=[["d"]])
    >>> round(warn_at(made), 2)
    10.42
    """
    return math.log(rollout.terms.watched / rollout.terms.alpha)


def decide(rollout: Rollout, evidence: Evidence, now_ms: int) -> Decision:
    """What to do with a rollout at a time (wall-clock ms), which no decision is made before. It goes back on evidence
    at any time, even while it is halted; it goes on only while it is running, heard, and its devices speak.

    >>> made = Rollout(id="r", bundle="b", back="a", models=[], old=[], waves=[["d"], ["e"]],
    ...                state="running", stage=0)
    >>> decide(made, Evidence(running=1, independent=9000, hours=30), 1)  # doctest: +NORMALIZE_WHITESPACE
    Decision(action='advance', reasons=['9000 independent frames in 30 hours, nothing found'],
             desired=[('d', 'b'), ('e', 'b')])
    >>> decide(made, Evidence(running=1, log_e=12.0), 1).desired
    [('d', 'a')]
    """
    if rollout.state == "planned" or rollout.state in ENDED or now_ms < rollout.stage_ms:
        return _decision(rollout, "stay", [f"is {rollout.state.replace('_', ' ')}"])
    if evidence.critical:
        return _decision(rollout, "roll back", list(evidence.critical))
    if evidence.log_e >= warn_at(rollout):
        said = f"worse than its peers: log e {evidence.log_e:.1f}, goes back at {warn_at(rollout):.1f}"
        return _decision(rollout, "roll back", [said])
    if obstacle := _obstacle(rollout, evidence, now_ms):
        halted = rollout.state == "halted"
        return _decision(rollout, "stay" if halted else "halt", [obstacle])
    if rollout.state == "halted":
        if rollout.halted_by == "monitor":
            return _decision(rollout, "resume", ["its devices are heard again"])
        return _decision(rollout, "stay", [f"halted by {rollout.halted_by}"])
    terms = rollout.terms
    seen = f"{evidence.independent:.0f} independent frames in {evidence.hours} hours"
    if evidence.independent < terms.frames or evidence.hours < terms.hours:
        return _decision(rollout, "stay", [f"{seen}, of {terms.frames} in {terms.hours}"])
    action: Action = "finish" if rollout.stage == len(rollout.waves) - 1 else "advance"
    return _decision(rollout, action, [f"{seen}, nothing found"])


def _obstacle(rollout: Rollout, evidence: Evidence, now_ms: int) -> str:
    """Why nothing can be told of the devices; empty where it can. A wave has its hours to be delivered in."""
    if evidence.trouble:
        return evidence.trouble
    wanted = math.ceil(rollout.terms.reporting * len(rollout.chosen))
    due = now_ms - rollout.stage_ms >= rollout.terms.hours * HOUR_MS
    if due and evidence.running < wanted:
        return f"{evidence.running} of {len(rollout.chosen)} devices report and run it, {wanted} are needed"
    return ""


def desired_of(rollout: Rollout) -> list[tuple[str, str]]:
    """The bundle (SHA-256) that each device that a rollout has reached is to have."""
    bundle = rollout.back if rollout.state == "rolled_back" else rollout.bundle
    return [(device, bundle) for device in rollout.chosen]


def _decision(rollout: Rollout, action: Action, reasons: list[str]) -> Decision:
    after = rollout
    if action == "advance":
        after = msgspec.structs.replace(rollout, stage=rollout.stage + 1)
    elif action == "roll back":
        after = msgspec.structs.replace(rollout, state="rolled_back")
    return Decision(action=action, reasons=reasons, desired=desired_of(after))
