"""A folder of exported days that is kept up to date: `day=2026-11-20/part-0.parquet`, or a month each.

`_export.json` says what the folder holds, with a line for each part. A part is written under another name and renamed
when it is whole; it is written again only where the store holds something else than it did.
"""

from __future__ import annotations

import hashlib
from calendar import monthrange
from collections.abc import Callable
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
from sqlalchemy import Engine
from sqlalchemy.engine import Connection

from device_agent.contract.files import replacing, sweep
from fleet.backup import snapshot
from fleet.export.columns import about
from fleet.export.formats import FORMATS
from fleet.export.manifest import Manifest, Part, Request, check, one_export, open_manifest, save
from fleet.export.tables import TABLES, Labels, read_labels
from fleet.export.walk import MOST_MS, batches, days_of, weigh
from fleet.retention import forgotten_ms
from fleet.rollup import DAY_MS

Outcome = Literal["written", "unchanged", "kept", "removed"]
Tell = Callable[[str, Outcome, int], None]
_EPOCH_DAY = date(1970, 1, 1).toordinal()


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """What an export came to: rows and bytes that were written, and files by what became of them."""

    rows: int
    bytes: int
    written: list[str]
    unchanged: list[str]
    kept: list[str]
    removed: list[str]


class Period(NamedTuple):
    """A part's name, from and until in wall-clock ms, and the devices that reported in it."""

    name: str
    from_ms: int
    until_ms: int
    devices: list[str]


def export_folder(
    engine: Engine,
    folder: Path,
    request: Request,
    *,
    from_ms: int = 0,
    until_ms: int = MOST_MS,
    tell: Tell = lambda _name, _outcome, _rows: None,
) -> Exported:
    """Bring a folder up to date, in whole days (or months) of UTC; each file is one moment of the store.

    A part stays as it is, "kept", where the store holds less than it does: reports of which some are over their time,
    or fewer rows.

    Raises:
        BadInput: the folder holds another export, or something else; another export writes there.
        MissingPackage: pyarrow is not installed.
        NotWritable, Unreachable: the folder or the store.
    """
    check(request)
    with one_export(folder):
        manifest = open_manifest(folder, request)
        done: dict[Outcome, list[str]] = {"written": [], "unchanged": [], "kept": [], "removed": []}
        rows = size = 0
        for period in _periods(engine, request, from_ms, until_ms, list(manifest.parts)):
            outcome = _bring(engine, folder, manifest, period)
            part = manifest.parts.get(period.name)
            if outcome == "written" and part:
                rows, size = rows + part.rows, size + part.bytes
            done[outcome].append(period.name)
            tell(period.name, outcome, part.rows if part else 0)
    return Exported(rows=rows, bytes=size, **done)


def export_file(engine: Engine, path: Path, request: Request, *, from_ms: int = 0, until_ms: int = MOST_MS) -> Exported:
    """Write the rows of a time into one file, which takes the place of one that was there.

    Raises:
        BadInput: see `check`.
        MissingPackage: pyarrow is not installed.
        NotWritable, Unreachable: the file or the store.
    """
    check(request)
    with snapshot(engine) as tx:
        devices: list[str] = []
        if request.what == "reports":
            found = days_of(tx, "reports", request.chosen, from_ms, until_ms)
            devices = sorted({device for names in found.values() for device in names})
        period = Period("", from_ms, until_ms, devices)
        with replacing(path) as temporary:
            rows = _write(tx, temporary, request, period, read_labels(tx))
    return Exported(rows=rows, bytes=path.stat().st_size, written=[path.name], unchanged=[], kept=[], removed=[])


def _bring(engine: Engine, folder: Path, manifest: Manifest, period: Period) -> Outcome:
    """Bring one part up to date."""
    request, known = manifest.request, manifest.parts.get(period.name)
    path = folder / period.name / f"part-0.{request.format}"
    there = known is not None and path.is_file() and path.stat().st_size == known.bytes
    sweep(path.parent)
    try:
        with snapshot(engine) as tx:
            part = _replace(tx, path, request, period, known if there else None)
    except _Stays as stays:
        return stays.outcome
    if part is None:
        path.unlink(missing_ok=True)
        with suppress(OSError):
            path.parent.rmdir()
        manifest.parts.pop(period.name, None)
    else:
        manifest.parts[period.name] = part
    save(folder, manifest)
    return "removed" if part is None else "written"


class _Stays(Exception):
    """A part is left as it is."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome


def _replace(tx: Connection, path: Path, request: Request, period: Period, known: Part | None) -> Part | None:
    """Write a part; None where the store has nothing for it. `known` is the one that is there."""
    labels, state, whole = read_labels(tx), "", True
    if request.what == "reports":
        state = weigh(tx, period.devices, period.from_ms, period.until_ms)
        state += f"-{_digest(labels)}" if request.tidy else ""
        if known and known.state == state:
            raise _Stays("unchanged")
        whole = period.from_ms >= forgotten_ms(tx)
        if known and not whole:
            raise _Stays("kept")
        if not period.devices:
            return None
    with replacing(path) as temporary:
        rows = _write(tx, temporary, request, period, labels)
        if request.what != "reports":
            with temporary.open("rb") as written:
                state = hashlib.file_digest(written, "sha256").hexdigest()
            if known and (known.state == state or known.rows > rows):
                raise _Stays("unchanged" if known.state == state else "kept")
        return Part(rows=rows, bytes=temporary.stat().st_size, state=state, whole=whole)


def _write(tx: Connection, path: Path, request: Request, period: Period, labels: Labels) -> int:
    """Write the rows of a period; how many they are."""
    count = 0
    with path.open("wb") as out:
        writer = FORMATS[request.format](out, about(request.what, tidy=request.tidy))
        try:
            for batch in batches(tx, request, period.from_ms, period.until_ms, devices=period.devices, labels=labels):
                writer.write(batch)
                count += len(batch)
        finally:
            writer.close()
    return count


def _periods(engine: Engine, request: Request, from_ms: int, until_ms: int, known: list[str]) -> list[Period]:
    """The days (or months) of a time of which there is anything to be exported, or to be taken away."""
    if TABLES[request.what].moment is None:
        return [Period("", 0, MOST_MS, [])]
    name = _month if request.months else _day
    first_ms = _bounds(name(max(from_ms, 0) // DAY_MS))[0]
    last_ms = MOST_MS if until_ms >= MOST_MS else _bounds(name((until_ms - 1) // DAY_MS))[1]
    with snapshot(engine) as tx:
        days = days_of(tx, request.what, request.chosen, first_ms, last_ms)
        kept_ms = forgotten_ms(tx)
    found = {name(day): devices for day, devices in days.items()}
    if request.what == "reports":
        for part in known:
            start_ms, end_ms = _bounds(part)
            if first_ms <= start_ms and end_ms <= last_ms and start_ms >= kept_ms:
                found.setdefault(part, [])
    return [Period(part, *_bounds(part), found[part]) for part in sorted(found)]


def _day(day: int) -> str:
    """Of days since 1970.

    >>> _day(20_000), _month(20_000), _bounds("month=2024-10")
    ('day=2024-10-04', 'month=2024-10', (1727740800000, 1730419200000))
    """
    return f"day={_date(day).isoformat()}"


def _month(day: int) -> str:
    return f"month={_date(day).isoformat()[:7]}"


def _date(day: int) -> date:
    return date.fromordinal(min(_EPOCH_DAY + day, date.max.toordinal()))


def _bounds(name: str) -> tuple[int, int]:
    """From and until of a part, wall-clock ms; the last day that a date can name goes on for ever."""
    kind, _, text = name.partition("=")
    first = date.fromisoformat(text if kind == "day" else f"{text}-01")
    begin = first.toordinal() - _EPOCH_DAY
    days = 1 if kind == "day" else monthrange(first.year, first.month)[1]
    last = begin + days > date.max.toordinal() - _EPOCH_DAY
    return begin * DAY_MS, MOST_MS if last else (begin + days) * DAY_MS


def _digest(labels: Labels) -> str:
    return hashlib.sha256(msgspec.json.encode(sorted(labels.items()))).hexdigest()[:16]
