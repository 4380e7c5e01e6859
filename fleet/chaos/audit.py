"""The account of every frame: what sources made, what was answered, what was committed to spools, what the monitor has.

Four books are kept by four hands. A source writes each frame's stamp down before anybody sees it; the agent prints a
verdict for each frame that it answers, in order; the spool of an agent that was killed says how many reports it had
committed; the monitor's store has the reports. All times are on the one monotonic clock of the machine, so a report
belongs to the run of the agent in which it was closed. Answers come in order, so the first F verdicts of a run are the
F frames that its reports count, and the stamp of the last one says how many frames must have been counted as dropped.
What was answered after that is what the end of the run cost.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec
from sqlalchemy import Engine, select

from device_agent.contract.report import GAP, DeviceReport, read_report
from device_agent.contract.tally import read_tally
from fleet.chaos.device import Device
from fleet.chaos.programs import Run
from fleet.gaps import read_gaps
from fleet.schema import REPORT

GRACE_S = 2.0
"""From the end of an interval to its commit, on a machine that is busy with everything at once."""
UNPRINTED = 8
"""Answers that a killed agent counted and had not printed yet."""
Key = tuple[int, int]


class _Answer(msgspec.Struct):
    frame: int


class Account(msgspec.Struct, kw_only=True):
    """One device. In frames: `generated` by its source, `answered`, `counted` in stored reports, `dropped` as these
    say, `open` answered and lost with the interval that was open at an end. In reports: `spooled` committed, `stored`
    held by the monitor, `gaps` that tell of a loss before them, `damaged` lost with a spool that was corrupted on
    purpose, `missing` and `twice`. `unsaid` are lost frames that no gap tells of, `longest_open_s` the longest interval
    that was lost. `faults` says what is wrong; empty if nothing is."""

    device: str
    runs: int = 0
    kills: int = 0
    generated: int = 0
    answered: int = 0
    counted: int = 0
    dropped: int = 0
    open: int = 0
    spooled: int = 0
    stored: int = 0
    gaps: int = 0
    told: int = 0
    damaged: int = 0
    missing: int = 0
    twice: int = 0
    unsaid: int = 0
    longest_open_s: float = 0.0
    faults: list[str] = []


def audit(devices: Iterable[Device], engine: Engine, interval_s: float) -> list[Account]:
    """The accounts of devices whose agents have ended."""
    with engine.connect() as tx:
        told = read_gaps(tx)
    accounts = []
    for device in devices:
        reports = read_stored(engine, device.name)
        account = Account(device=device.name, runs=len(device.program.runs), told=told.get(device.name, 0), faults=[])
        spoilt = _compare_keys(account, device, reports)
        for run in device.program.runs:
            snapshot = device.snapshots.get(run.number)
            _compare_run(account, device, run, reports, interval_s, snapshot is not None and snapshot.epoch in spoilt)
        if not account.answered:
            account.faults.append("no frame was answered, see its agent.log")
        account.gaps = sum(bool(report.flags & GAP) for report in reports)
        if account.told < account.gaps:
            account.faults.append(f"the monitor shows {account.told} gaps of {account.gaps}")
        accounts.append(account)
    return accounts


def read_stored(engine: Engine, device: str) -> list[DeviceReport]:
    """The reports of a device in the monitor's store, in the order in which they were closed."""
    with engine.connect() as tx:
        rows = tx.execute(select(REPORT.c.payload).where(REPORT.c.device == device)).all()
    return sorted((read_report(row.payload) for row in rows), key=lambda report: report.monotonic_ms)


def committed_keys(device: Device) -> set[Key]:
    """Keys of all reports that the device is known to have committed."""
    most: dict[int, int] = {}
    keys: set[Key] = set()
    for snapshot in device.snapshots.values():
        most[snapshot.epoch] = max(most.get(snapshot.epoch, 0), snapshot.committed)
        keys |= snapshot.waiting
    return keys | {(epoch, sequence) for epoch, last in most.items() for sequence in range(1, last + 1)}


def stored_keys(reports: Iterable[DeviceReport]) -> list[Key]:
    """Keys that stored reports stand for; one that stands there twice is held twice."""
    keys = []
    for report in reports:
        first, last = report.merged or (report.sequence, report.sequence)
        keys += [(report.epoch, sequence) for sequence in range(first, last + 1)]
    return keys


def _compare_keys(account: Account, device: Device, reports: list[DeviceReport]) -> set[int]:
    """Epochs of which damage took reports."""
    committed, held = committed_keys(device), stored_keys(reports)
    lacking = committed - set(held)
    spoilt = {epoch for epoch, _ in lacking & device.damaged}
    account.spooled, account.stored = len(committed), len(set(held))
    account.twice = len(held) - len(set(held))
    account.damaged = len(lacking & device.damaged)
    account.missing = len(lacking - device.damaged)
    for damage in device.damages:
        after = next((report for report in reports if report.monotonic_ms * 1_000_000 > damage.at_ns), None)
        if damage.waiting & lacking and (after is None or not after.flags & GAP):
            account.faults.append("damage took reports, and no gap tells of it")
    if account.missing:
        account.faults.append(f"{account.missing} committed reports are not in the store")
    if account.twice:
        account.faults.append(f"{account.twice} reports are in the store twice")
    if invented := len(set(held) - committed):
        account.faults.append(f"{invented} stored reports were never seen in the spool")
    return spoilt


class _Books(NamedTuple):
    stamps: list[int]
    times_ns: dict[int, int]
    generated: int


def _read_books(device: Device, run: Run) -> _Books:
    answers, frames = device.answers(run.number), device.frames(run.number)
    printed = answers.read_bytes().split(b"\n")[:-1] if answers.exists() else []
    decoder = msgspec.json.Decoder(_Answer)
    handed = read_tally(frames.read_bytes()) if frames.exists() else []
    return _Books(
        [decoder.decode(line).frame for line in printed if line],
        {one.stamp: one.captured_ns for one in handed},
        len(handed),
    )


def _compare_run(
    account: Account, device: Device, run: Run, reports: list[DeviceReport], interval_s: float, spoilt: bool
) -> None:
    books = _read_books(device, run)
    own = [report for report in reports if run.start_ns <= report.monotonic_ms * 1_000_000 <= run.end_ns]
    counted, dropped = sum(report.frames for report in own), sum(report.dropped for report in own)
    answered = max(len(books.stamps), counted)
    account.kills += run.how != "stopped"
    account.generated += books.generated
    account.answered += answered
    account.counted += counted
    account.dropped += dropped
    if spoilt:  # which of its frames were in the reports that the damage took, nobody can say
        return
    where = f"run {run.number} ({run.how})"
    if counted - len(books.stamps) > (0 if run.how == "stopped" else UNPRINTED):
        account.faults.append(f"{where}: {counted} frames are counted, {len(books.stamps)} were answered")
    if 0 < counted <= len(books.stamps):
        due = books.stamps[counted - 1] - books.stamps[0] + 1 - counted
        if due != dropped:
            account.faults.append(f"{where}: {dropped} frames are counted as dropped, the stamps say {due}")
    _compare_end(account, run, books, counted, reports, interval_s)


def _compare_end(
    account: Account, run: Run, books: _Books, counted: int, reports: list[DeviceReport], interval_s: float
) -> None:
    """What the end of the run cost: at most the open interval, and the next report tells of it."""
    lost = books.stamps[counted:]
    if not lost:
        return
    account.open += len(lost)
    where = f"run {run.number} ({run.how})"
    if run.how == "stopped":
        account.faults.append(f"{where}: {len(lost)} answers are in no report")
    open_s = (run.end_ns - books.times_ns.get(lost[0], run.end_ns)) / 1e9
    account.longest_open_s = max(account.longest_open_s, round(open_s, 3))
    if open_s > 1.5 * interval_s + GRACE_S:
        account.faults.append(f"{where}: {open_s:.1f} s are in no report, the open interval is {interval_s:g} s")
    after = next((report for report in reports if report.monotonic_ms * 1_000_000 > run.end_ns), None)
    if after is None or not after.flags & GAP:
        account.unsaid += len(lost)
        account.faults.append(f"{where}: {len(lost)} answers are lost, and no gap tells of it")


COLUMNS = (
    "device", "runs", "kills", "generated", "answered", "counted", "dropped", "open", "spooled", "stored", "gaps",
    "damaged", "missing", "twice", "unsaid", "longest_open_s",
)  # fmt: skip


def table(accounts: list[Account]) -> str:
    """The accounts as a table in Markdown, with their sum."""
    rows = [[str(getattr(account, name)) for name in COLUMNS] for account in accounts]
    total = ["all"] + [str(sum(getattr(account, name) for account in accounts)) for name in COLUMNS[1:-1]]
    rows.append([*total, str(max((account.longest_open_s for account in accounts), default=0.0))])
    heads = [name.replace("_", " ").removesuffix(" s") for name in COLUMNS]
    widths = [max(len(line[k]) for line in (heads, *rows)) for k in range(len(heads))]
    lines = [heads, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| " + " | ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )
