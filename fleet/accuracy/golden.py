"""Golden parts in the store: which there are, and what lines answered for them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import func, insert, select
from sqlalchemy.engine import Connection

from device_agent.contract.errors import BadInput, NotFound
from device_agent.contract.histogram import BINS
from device_agent.contract.topics import check_device
from fleet.accuracy.labels_file import WITHIN_MS, read_table, read_time
from fleet.models import Model
from fleet.schema import AUDIT, DEVICE, GOLDEN, GOLDEN_RUN, SAMPLE
from fleet.store import upsert

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
