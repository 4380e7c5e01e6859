"""What golden parts say of each line: its test, its recall, and a finding when it fell."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

import msgspec
from sqlalchemy.engine import Connection

from device_agent.contract.errors import BadInput, NotFound
from fleet.accuracy.comparison import McNemar, mcnemar
from fleet.accuracy.finding import Finding, finding_id
from fleet.accuracy.golden import A_DAY, GoldenPart, GoldenRun, read_parts, read_runs, resets
from fleet.accuracy.golden_test import Outcome, judge_runs, share_of
from fleet.accuracy.intervals import Interval
from fleet.models import Model
from fleet.wording import printable, say_time


class GoldenState(msgspec.Struct, frozen=True, kw_only=True):
    """How a line does with golden parts since its model was changed last. `recall` is over defects, `passed` over good
    parts, exact limits, measured over all these runs; `false_alarms_a_year` is promised of each line at `a_day` runs a
    day."""

    device: str
    model: str
    since_ms: int
    last_ms: int
    outcome: Outcome
    recall: Interval | None
    passed: Interval | None
    false_alarms_a_year: float
    finding: Finding | None


def read_states(
    tx: Connection,
    models: Mapping[str, Model],
    *,
    devices: Collection[str] | None = None,
    false_alarms_a_year: float = 1.0,
    a_day: float = A_DAY,
) -> list[GoldenState]:
    """The states of the lines in the store, those named or all; see `states`.

    Raises:
        BadInput: as for `states`.
    """
    since = resets(tx)
    runs = [run for run in read_runs(tx, devices=devices) if run.at_ms > since.get(run.device, -1)]
    return states(runs, read_parts(tx), models, false_alarms_a_year=false_alarms_a_year, a_day=a_day)


def states(
    runs: Iterable[GoldenRun],
    parts: Mapping[str, GoldenPart],
    models: Mapping[str, Model],
    *,
    false_alarms_a_year: float = 1.0,
    a_day: float = A_DAY,
) -> list[GoldenState]:
    """Each line's state, by device. A line begins anew with another model.

    Args:
        runs: in the order of their times; of parts that are not known any more, left out.
        parts, models: as the store has them.
        false_alarms_a_year: of one line whose claims hold, at most, on average.
        a_day: runs a day of one line.

    Raises:
        BadInput: a rate that is none.
    """
    if not (0 < false_alarms_a_year < 365 * a_day):
        raise BadInput(f"golden: {false_alarms_a_year:g} false alarms a year at {a_day:g} runs a day is no rate")
    by_device: dict[str, list[GoldenRun]] = defaultdict(list)
    for run in runs:
        if run.part in parts:
            own = by_device[run.device]
            if own and own[-1].model != run.model:
                own.clear()
            own.append(run)
    between = 365 * a_day / false_alarms_a_year
    return [_state(own, parts, models, between, false_alarms_a_year) for _, own in sorted(by_device.items())]


def _state(
    runs: list[GoldenRun],
    parts: Mapping[str, GoldenPart],
    models: Mapping[str, Model],
    between: float,
    false_alarms_a_year: float,
) -> GoldenState:
    answers = [(is_right(run, parts[run.part], models), parts[run.part].claim) for run in runs]
    outcome = judge_runs(answers, between)
    bad = [
        right for run, (right, _) in zip(runs, answers, strict=True) if _is_defect(run, parts[run.part].label, models)
    ]
    fine = [
        right
        for run, (right, _) in zip(runs, answers, strict=True)
        if not _is_defect(run, parts[run.part].label, models)
    ]
    return GoldenState(
        device=runs[0].device,
        model=runs[0].model,
        since_ms=runs[0].at_ms,
        last_ms=runs[-1].at_ms,
        outcome=outcome,
        recall=share_of(bad),
        passed=share_of(fine),
        false_alarms_a_year=false_alarms_a_year,
        finding=None if outcome.alarm is None else _finding(runs, parts, outcome),
    )


def is_right(run: GoldenRun, part: GoldenPart, models: Mapping[str, Model]) -> bool:
    """Whether a line did with a part what it should: reject a defect, whatever defect it calls it, and pass a good
    part."""
    return _is_defect(run, part.label, models) == _is_defect(run, run.predicted, models)


def _is_defect(run: GoldenRun, label: str, models: Mapping[str, Model]) -> bool:
    """Role of a class: as the run's model says, else as any model that knows the class; a class of none is a defect
    unless it is called good."""
    own = models.get(run.model)
    for model in [own, *models.values()] if own else models.values():
        for known in model.labels if model.baseline is not None else ():
            if known.name == label:
                return known.role == "defect"
    return label != "good"


def _finding(runs: list[GoldenRun], parts: Mapping[str, GoldenPart], outcome: Outcome) -> Finding:
    first, share = runs[outcome.onset], outcome.share
    if share is None or outcome.alarm is None:
        raise BadInput("golden: a finding without a run")
    since = runs[outcome.onset :]
    claim = sum(parts[run.part].claim for run in since) / len(since)
    text = (
        f"{first.device}: golden parts answered rightly {share.value:.0%} ({share.low:.0%} to {share.high:.0%}) of "
        f"{len(since)} since {say_time(first.at_ms)}, at least {claim:.0%} claimed; "
        f"e-value 10^{outcome.log_e / 2.302585:.1f}, measured"
    )
    return Finding(
        id=finding_id("golden", first.device, first.model, "golden", first.at_ms),
        kind="golden",
        severity="critical",
        scope_kind="device",
        scope=first.device,
        model=first.model,
        figure="golden",
        onset_ms=first.at_ms,
        at_ms=runs[outcome.alarm].at_ms,
        value=share.value,
        low=share.low,
        high=share.high,
        claim=claim,
        log_e=outcome.log_e,
        parts=len(since),
        text=printable(text),
        may_trigger=True,
        reason="golden",
    )


def golden_findings(tx: Connection, models: Mapping[str, Model], *, false_alarms_a_year: float = 1.0) -> list[Finding]:
    """The golden failures of all lines: critical, each under one id until the line is put right or its model
    changes."""
    found = read_states(tx, models, false_alarms_a_year=false_alarms_a_year)
    return [state.finding for state in found if state.finding is not None]


def compare_models(tx: Connection, a: str, b: str, models: Mapping[str, Model]) -> McNemar:
    """Two models by their last answers to the same golden parts.

    Raises:
        NotFound: no part went through lines with both.
    """
    parts = read_parts(tx)
    last: dict[tuple[str, str], bool] = {}
    for run in read_runs(tx):
        if run.part in parts:
            last[run.model, run.part] = is_right(run, parts[run.part], models)
    pairs = [(last[a, part], last[b, part]) for part in parts if (a, part) in last and (b, part) in last]
    if not pairs:
        raise NotFound(f"no golden part went through lines with both models {a} and {b}")
    return mcnemar(pairs)
