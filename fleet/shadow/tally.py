"""What devices report of a candidate beside the model that serves, added up by device and hour, in the store.

The sums change in the transaction that stores or replaces a report, so that each report counts exactly once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from sqlalchemy import delete, select, tuple_
from sqlalchemy.engine import Connection

from device_agent.contract.report import DeviceReport
from fleet.schema import SHADOW_TALLY
from fleet.store import upsert

if TYPE_CHECKING:
    from fleet.ledger import Entry

HOUR_MS = 3_600_000
CHUNK = 200
Key = tuple[str, str, str, int]


class Counts(msgspec.Struct, kw_only=True):
    """Sums of reports. `frames` that the candidate saw, and `agreed` of them; `matrix` by cell served class * `classes`
    + candidate's class, `cells` of the candidate by class * 24 + bin, `latency` by bucket (devices of schema 1.0 report
    none of the three). `served` cells and `same` pairs are of all frames that were served meanwhile. `odd`: reports of
    another number of classes, which are not counted."""

    reports: int = 0
    odd: int = 0
    classes: int = 0
    frames: int = 0
    agreed: int = 0
    same: int = 0
    matrix: dict[int, int] = {}
    cells: dict[int, int] = {}
    latency: dict[int, int] = {}
    served: dict[int, int] = {}

    def enter(self, report: DeviceReport, sign: int = 1) -> None:
        """Count a report that has a shadow; with `sign` -1 no longer."""
        shadow, classes = report.shadow, report.histogram.classes
        assert shadow is not None
        if self.classes not in (0, classes):
            self.odd = max(0, self.odd + sign)
            return
        self.classes = classes
        for name, count in (("reports", 1), ("frames", shadow.frames), ("agreed", shadow.agreed),
                            ("same", report.same)):  # fmt: skip
            setattr(self, name, max(0, getattr(self, name) + sign * count))
        _count(self.matrix, shadow.matrix, sign)
        _count(self.cells, shadow.cells, sign)
        _count(self.latency, shadow.latency, sign)
        _count(self.served, report.histogram.cells, sign)

    def add(self, other: Counts) -> None:
        """Count what another one counts, of the same number of classes."""
        self.classes = self.classes or other.classes
        for name in ("reports", "odd", "frames", "agreed", "same"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("matrix", "cells", "latency", "served"):
            mine = getattr(self, name)
            for cell, count in getattr(other, name).items():
                mine[cell] = mine.get(cell, 0) + count


def _count(counts: dict[int, int], flat: list[int], sign: int) -> None:
    for cell, count in zip(flat[::2], flat[1::2], strict=True):
        counts[cell] = counts.get(cell, 0) + sign * count
        if counts[cell] <= 0:
            del counts[cell]


class Gone(NamedTuple):
    """A stored report in whose place a merged one has come; `at_ms` as it was stored."""

    device: str
    at_ms: int
    report: DeviceReport


class Hour(NamedTuple):
    """An hour (begin in wall-clock ms) of a device that serves one model (id) and has a candidate (id) beside it."""

    device: str
    serving: str
    candidate: str
    start_ms: int
    counts: Counts


def tally(tx: Connection, came: Iterable[Entry], gone: Iterable[Gone] = ()) -> int:
    """Count the shadows of reports that are new in `tx`, and no longer those that they replace. A merged report counts
    whole, as what it replaces is taken away where it was counted. Hours that changed."""
    moved = [(entry.device, entry.at_ms, entry.report, 1) for entry in came if entry.report.shadow is not None]
    moved += [(device, at_ms, report, -1) for device, at_ms, report in gone if report.shadow is not None]
    if not moved:
        return 0
    keys = [_key(device, at_ms, report) for device, at_ms, report, _ in moved]
    found = _read(tx, sorted(set(keys)))
    for key, (_, _, report, sign) in sorted(zip(keys, moved, strict=True), key=lambda one: one[0]):
        found.setdefault(key, Counts()).enter(report, sign)
    names = ("device", "serving", "candidate", "start_ms")
    rows = [
        {**dict(zip(names, key, strict=True)), "counts": msgspec.msgpack.encode(counts)}
        for key, counts in sorted(found.items())
    ]
    upsert(tx, SHADOW_TALLY, rows)
    return len(rows)


def _key(device: str, at_ms: int, report: DeviceReport) -> Key:
    assert report.shadow is not None
    return device, report.model.hex(), report.shadow.model.hex(), at_ms // HOUR_MS * HOUR_MS


def _read(tx: Connection, keys: list[Key]) -> dict[Key, Counts]:
    columns = [SHADOW_TALLY.c[name] for name in ("device", "serving", "candidate", "start_ms")]
    found: dict[Key, Counts] = {}
    for first in range(0, len(keys), CHUNK):
        asked = select(SHADOW_TALLY).where(tuple_(*columns).in_(keys[first : first + CHUNK]))
        for row in tx.execute(asked):
            found[row.device, row.serving, row.candidate, row.start_ms] = _counts(row)
    return found


def read_tally(tx: Connection, candidate: str, *, since_ms: int = 0, until_ms: int = 2**62) -> list[Hour]:
    """Hours of a candidate (id) that begin in a time, in the order of time and device; those without frames are left
    out."""
    asked = (
        select(SHADOW_TALLY)
        .where(
            SHADOW_TALLY.c.candidate == candidate,
            SHADOW_TALLY.c.start_ms >= since_ms,
            SHADOW_TALLY.c.start_ms < until_ms,
        )
        .order_by(SHADOW_TALLY.c.start_ms, SHADOW_TALLY.c.device, SHADOW_TALLY.c.serving)
    )
    hours = [Hour(row.device, row.serving, row.candidate, row.start_ms, _counts(row)) for row in tx.execute(asked)]
    return [hour for hour in hours if hour.counts.frames]


def read_candidates(tx: Connection) -> list[str]:
    """Ids of all models that are or were shadows."""
    return list(tx.scalars(select(SHADOW_TALLY.c.candidate).distinct().order_by(SHADOW_TALLY.c.candidate)))


def forget_tally(tx: Connection, until_ms: int) -> int:
    """Remove hours that begin before a time (wall-clock ms). Rows that went."""
    return tx.execute(delete(SHADOW_TALLY).where(SHADOW_TALLY.c.start_ms < until_ms)).rowcount


def _counts(row: Any) -> Counts:
    return msgspec.msgpack.decode(row.counts, type=Counts)
