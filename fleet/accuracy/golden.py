"""Golden parts in the store: which there are, what lines answered for them, and what that says of each line."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec
from sqlalchemy import func, insert, select
from sqlalchemy.engine import Connection

from device_agent.contract.errors import BadInput, NotFound
from device_agent.contract.histogram import BINS
from device_agent.contract.topics import check_device
from fleet.accuracy.comparison import McNemar, mcnemar
from fleet.accuracy.finding import Finding, finding_id
from fleet.accuracy.golden_test import Outcome, judge_runs, share_of
from fleet.accuracy.intervals import Interval
from fleet.accuracy.labels_file import WITHIN_MS, read_table, read_time
from fleet.models import Model
from fleet.schema import AUDIT, DEVICE, GOLDEN, GOLDEN_RUN, SAMPLE
from fleet.store import upsert
from fleet.wording import printable, say_time

YEAR_MS = 365 * 86_400_000
COLUMNS = ("device", "time", "part", "predicted")
A_DAY = 12.0
RESET = "golden reset"
CLAIM = 0.95


class GoldenPart(NamedTuple):
    """A part whose class is known; `claim` is the chance, over 0 and under 1, with which a healthy line answers it
    rightly, at least."""

    part: str
    label: str
    claim: float
    added_ms: int
    note: str = ""


class GoldenRun(NamedTuple):
    """A part that went through a line at a time, and the class that the line's model named."""

    device: str
    at_ms: int
    part: str
    model: str
    predicted: str
    recorded_ms: int


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


def add_part(tx: Connection, part: GoldenPart, models: Mapping[str, Model]) -> None:
    """Store a part; one that is there takes the new class and claim.

    Raises:
        BadInput: an empty or long name, a claim that is none, a class of no model.
    """
    if not 1 <= len(part.part) <= 64 or not part.part.isprintable():
        raise BadInput(f"golden: part {part.part[:20]!r} must be 1 to 64 printable characters")
    if not 0 < part.claim < 1:
        raise BadInput(f"golden: part {part.part}: a claim of {part.claim:g} must be over 0 and under 1")
    known = {label.name for model in models.values() for label in model.labels}
    if known and part.label not in known:
        classes = ", ".join(sorted(known)[:20])
        raise BadInput(f"golden: part {part.part}: {part.label!r} is no class of a model; classes are {classes}")
    upsert(tx, GOLDEN, [part._asdict()], keep=("added_ms",))


def read_parts(tx: Connection) -> dict[str, GoldenPart]:
    """Every part by its name."""
    columns = [GOLDEN.c[name] for name in GoldenPart._fields]
    return {row.part: GoldenPart(*row) for row in tx.execute(select(*columns).order_by(GOLDEN.c.part))}


def record_runs(tx: Connection, runs: Iterable[GoldenRun]) -> int:
    """Store runs; how many were new. The same device, time and part is one run, and takes the newer answer."""
    rows = {(run.device, run.at_ms, run.part): run for run in runs}
    known = {
        (row.device, row.at_ms, row.part)
        for row in tx.execute(select(GOLDEN_RUN.c.device, GOLDEN_RUN.c.at_ms, GOLDEN_RUN.c.part))
        if (row.device, row.at_ms, row.part) in rows
    }
    upsert(tx, GOLDEN_RUN, [run._asdict() for run in rows.values()])
    return len(rows) - len(known)


def read_runs(tx: Connection, *, devices: Collection[str] | None = None, since_ms: int = 0) -> list[GoldenRun]:
    """Runs in the order of their times, of the devices named or of all."""
    columns = [GOLDEN_RUN.c[name] for name in GoldenRun._fields]
    asked = select(*columns).where(GOLDEN_RUN.c.at_ms >= since_ms)
    rows = tx.execute(asked.order_by(GOLDEN_RUN.c.at_ms, GOLDEN_RUN.c.device, GOLDEN_RUN.c.part))
    return [GoldenRun(*row) for row in rows if devices is None or row.device in devices]


def make_run(
    tx: Connection, row: Mapping[str, str], models: Mapping[str, Model], parts: Mapping[str, GoldenPart], now_ms: int
) -> GoldenRun:
    """A run from texts: device, time, part, and predicted, which may be empty where a sample was kept at that time.

    Raises:
        BadInput: an unknown part, device or class, a time that is none or in the future, no sample to tell the answer.
    """
    device, part = row["device"], row["part"]
    check_device(device)
    if part not in parts:
        raise BadInput(f"part {part[:40]!r} is not known; add it with `lineside-fleet golden add`")
    at_ms = read_time(row["time"])
    if at_ms > now_ms + 60_000:
        raise BadInput(f"time {row['time'][:40]} is in the future")
    model = tx.scalar(select(DEVICE.c.model).where(DEVICE.c.device == device))
    sample = None if row["predicted"] else _sample(tx, device, at_ms)
    if sample is not None:
        model, cell = sample
        names = [label.name for label in models[model].labels] if model in models else []
        predicted = names[cell // BINS] if cell // BINS < len(names) else ""
    else:
        predicted = row["predicted"]
    if not predicted:
        raise BadInput(f"device {device}: no sample within {WITHIN_MS} ms of that time; say what the line answered")
    if model is None:
        raise BadInput(f"device {device} is not known, or has not said which model it runs")
    names = [label.name for label in models[model].labels] if model in models else []
    if names and predicted not in names:
        raise BadInput(f"predicted {predicted[:40]!r} is no class of the model; classes are {', '.join(names[:20])}")
    return GoldenRun(device, at_ms, part, model, predicted, now_ms)


def _sample(tx: Connection, device: str, at_ms: int) -> tuple[str, int] | None:
    near = select(SAMPLE.c.model, SAMPLE.c.cell, SAMPLE.c.at_ms).where(
        SAMPLE.c.device == device, SAMPLE.c.at_ms >= at_ms - WITHIN_MS, SAMPLE.c.at_ms <= at_ms + WITHIN_MS
    )
    found = sorted((abs(row.at_ms - at_ms), row.model, row.cell) for row in tx.execute(near))
    return found[0][1:] if found else None


def read_runs_file(
    tx: Connection, path: Path, models: Mapping[str, Model], parts: Mapping[str, GoldenPart], now_ms: int
) -> tuple[list[GoldenRun], list[str]]:
    """Runs of a CSV file with the columns device, time, part and, where no samples are kept, predicted; and a sentence
    for each line that is wrong.

    Raises:
        NotFound, BadInput: as for `read_table`.
    """
    runs, wrong = [], []
    for number, row in read_table(path, COLUMNS, COLUMNS[:3]):
        try:
            runs.append(make_run(tx, row, models, parts, now_ms))
        except BadInput as error:
            wrong.append(f"line {number}: {error}")
    return runs, wrong


def reset(tx: Connection, device: str, reason: str, now_ms: int) -> None:
    """Say that a line was put right: what it answered before counts no more. Kept in the audit table.

    Raises:
        NotFound: no golden part ever went through that line.
    """
    if tx.scalar(select(GOLDEN_RUN.c.device).where(GOLDEN_RUN.c.device == device).limit(1)) is None:
        raise NotFound(f"golden: no part ever went through {device!r}")
    tx.execute(insert(AUDIT).values(asked_ms=now_ms, action=RESET, target=device, done_ms=now_ms, outcome=reason))


def resets(tx: Connection) -> dict[str, int]:
    """When each line was put right last."""
    asked = select(AUDIT.c.target, func.max(AUDIT.c.asked_ms)).where(AUDIT.c.action == RESET).group_by(AUDIT.c.target)
    return {device: int(at_ms) for device, at_ms in tx.execute(asked)}


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
