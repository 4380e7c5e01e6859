"""Hours and days of every device: what stays when its single reports are gone.

An hour is summed ten minutes after its end, from the reports that are stored; one that comes later has its hour summed
again. Days are sums of hours. Integer counts add up, so a day is what its reports are, in whatever order they came.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from sqlalchemy import delete, select
from sqlalchemy.engine import Connection

from device_agent.contract.report import STAGES, DeviceReport, read_report
from fleet.schema import DEVICE, META, REPORT, ROLLUP, ROLLUP_DUE
from fleet.store import upsert

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
LATE_MS = 600_000
SLICE = 200
"""Devices that are summed between two looks at the clock."""
SPEND_S = 0.1
INFER = STAGES.index("infer")
ROLLED, CURSOR, FORGOTTEN = "rolled", "rolling", "forgotten"
"""Keys: start of the first hour that is not summed yet, the last device of it that is, and the start of the first hour
whose reports are all still there."""


class Sums(msgspec.Struct, kw_only=True):
    """What the reports of a device and model add up to. `cells` and `infer` are counts by cell (class * 24 + bin) and
    by latency bucket; `quality` is frames, and the sums of brightness, sharpness and clipped per mille over them.
    `score` is the highest, None where none was judged."""

    reports: int = 0
    frames: int = 0
    dropped: int = 0
    parts: int = 0
    same: int = 0
    score: float | None = None
    cells: dict[int, int] = {}
    infer: dict[int, int] = {}
    quality: list[int] = msgspec.field(default_factory=lambda: [0, 0, 0, 0])

    def add_report(self, report: DeviceReport, score: float | None) -> None:
        """Count one report."""
        self.reports += 1
        for name in ("frames", "dropped", "parts", "same"):
            setattr(self, name, getattr(self, name) + getattr(report, name))
        _count(self.cells, report.histogram.cells)
        if len(report.latency) > INFER:
            _count(self.infer, report.latency[INFER])
        if (seen := report.quality) is not None:
            shares = (1, seen.brightness, seen.sharpness, seen.clipped_permille)
            self.quality = [old + share * report.frames for old, share in zip(self.quality, shares, strict=True)]
        self._raise(score)

    def add(self, other: Sums) -> None:
        """Count what another one counts."""
        for name in ("reports", "frames", "dropped", "parts", "same"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for mine, theirs in ((self.cells, other.cells), (self.infer, other.infer)):
            for key, count in theirs.items():
                mine[key] = mine.get(key, 0) + count
        self.quality = [mine + theirs for mine, theirs in zip(self.quality, other.quality, strict=True)]
        self._raise(other.score)

    def _raise(self, score: float | None) -> None:
        if score is not None:
            self.score = score if self.score is None else max(self.score, score)


def _count(counts: dict[int, int], flat: list[int]) -> None:
    for key, count in zip(flat[::2], flat[1::2], strict=True):
        counts[key] = counts.get(key, 0) + count


def note(tx: Connection, moments: Iterable[tuple[str, int]], now_ms: int) -> None:
    """Devices and times of reports that came or went: hours that were summed already, or may be just now by another
    worker, are summed again."""
    until_ms = max(_number(tx, ROLLED), now_ms - HOUR_MS - LATE_MS // 2)
    hours = {(device, at_ms // HOUR_MS * HOUR_MS) for device, at_ms in moments if at_ms < until_ms + HOUR_MS}
    rows = [{"device": device, "start_ms": start_ms} for device, start_ms in sorted(hours) if start_ms < until_ms]
    upsert(tx, ROLLUP_DUE, rows, lock=True)


def roll(
    tx: Connection, now_ms: int, *, spend_s: float = SPEND_S, clock_s: Callable[[], float] = time.monotonic
) -> bool:
    """Sum what is due, for about `spend_s`. Whether more is due."""
    end_s = clock_s() + spend_s
    while clock_s() < end_s:
        if not (_again(tx) or _next_slice(tx, now_ms)):
            return False
    return True


def read_sums(tx: Connection, device: str, span: str, since_ms: int, until_ms: int) -> list[tuple[int, str, Sums]]:
    """Start, model and sums of a device's hours ("h") or days ("d") that begin in a time, in their order."""
    asked = (
        select(ROLLUP)
        .where(
            ROLLUP.c.device == device,
            ROLLUP.c.span == span,
            ROLLUP.c.start_ms >= since_ms,
            ROLLUP.c.start_ms < until_ms,
        )
        .order_by(ROLLUP.c.start_ms, ROLLUP.c.model)
    )
    return [(row.start_ms, row.model, _sums(row)) for row in tx.execute(asked)]


def _again(tx: Connection) -> bool:
    """Sum one hour of some devices again; whether one was due."""
    start_ms = tx.scalar(select(ROLLUP_DUE.c.start_ms).order_by(ROLLUP_DUE.c.start_ms).limit(1))
    if start_ms is None:
        return False
    of_hour = ROLLUP_DUE.c.start_ms == start_ms
    devices = list(tx.scalars(select(ROLLUP_DUE.c.device).where(of_hour).order_by(ROLLUP_DUE.c.device).limit(SLICE)))
    # first: a worker that notes one of them holds its row until its reports are there to be summed
    tx.execute(delete(ROLLUP_DUE).where(of_hour, ROLLUP_DUE.c.device.in_(devices)))
    _sum_hour(tx, devices, start_ms)
    if start_ms // DAY_MS * DAY_MS + DAY_MS <= _number(tx, ROLLED):
        _sum_day(tx, devices, start_ms // DAY_MS * DAY_MS)
    return True


def _next_slice(tx: Connection, now_ms: int) -> bool:
    """Sum the next devices of the first hour that is not summed; whether there were any."""
    start_ms = _number(tx, ROLLED)
    if not start_ms:
        first = tx.scalar(select(REPORT.c.at_ms).order_by(REPORT.c.batch).limit(1))
        if first is None:
            return False
        _set(tx, ROLLED, str(start_ms := first // HOUR_MS * HOUR_MS))
    if start_ms + HOUR_MS + LATE_MS > now_ms:
        return False
    after = tx.scalar(select(META.c.value).where(META.c.key == CURSOR)) or ""
    names = select(DEVICE.c.device).where(DEVICE.c.device > after).order_by(DEVICE.c.device).limit(SLICE)
    devices = list(tx.scalars(names))
    if devices:
        _sum_hour(tx, devices, start_ms)
        if (start_ms + HOUR_MS) % DAY_MS == 0:
            _sum_day(tx, devices, start_ms + HOUR_MS - DAY_MS)
        _set(tx, CURSOR, devices[-1])
    else:
        _set(tx, ROLLED, str(start_ms + HOUR_MS))
        _set(tx, CURSOR, "")
    return True


def _sum_hour(tx: Connection, devices: list[str], start_ms: int) -> None:
    """Sum an hour of some devices from their reports. Of an hour whose reports are gone those that came late are added,
    and go too."""
    of_hour = REPORT.c.device.in_(devices) & (REPORT.c.at_ms >= start_ms) & (REPORT.c.at_ms < start_ms + HOUR_MS)
    found: dict[tuple[str, str], Sums] = {}
    for row in tx.execute(select(REPORT.c.device, REPORT.c.payload, REPORT.c.score).where(of_hour)):
        report = read_report(row.payload)
        found.setdefault((row.device, report.model.hex()), Sums()).add_report(report, row.score)
    known = (ROLLUP.c.span == "h") & (ROLLUP.c.start_ms == start_ms) & ROLLUP.c.device.in_(devices)
    if start_ms < _number(tx, FORGOTTEN):
        for row in tx.execute(select(ROLLUP).where(known)):
            found.setdefault((row.device, row.model), Sums()).add(_sums(row))
        tx.execute(delete(REPORT).where(of_hour))
    tx.execute(delete(ROLLUP).where(known))
    _write(tx, "h", start_ms, found)


def _sum_day(tx: Connection, devices: list[str], start_ms: int) -> None:
    known = (ROLLUP.c.span == "d") & (ROLLUP.c.start_ms == start_ms) & ROLLUP.c.device.in_(devices)
    tx.execute(delete(ROLLUP).where(known))
    asked = select(ROLLUP).where(
        ROLLUP.c.device.in_(devices),
        ROLLUP.c.span == "h",
        ROLLUP.c.start_ms >= start_ms,
        ROLLUP.c.start_ms < start_ms + DAY_MS,
    )
    found: dict[tuple[str, str], Sums] = {}
    for row in tx.execute(asked):
        found.setdefault((row.device, row.model), Sums()).add(_sums(row))
    _write(tx, "d", start_ms, found)


def _write(tx: Connection, span: str, start_ms: int, found: dict[tuple[str, str], Sums]) -> None:
    encode = msgspec.msgpack.encode
    rows = [
        {
            "device": device,
            "model": model,
            "span": span,
            "start_ms": start_ms,
            **{name: getattr(sums, name) for name in ("reports", "frames", "dropped", "parts", "same", "score")},
            **{name: encode(getattr(sums, name)) for name in ("cells", "infer", "quality")},
        }
        for (device, model), sums in sorted(found.items())
    ]
    upsert(tx, ROLLUP, rows)


def _sums(row: Any) -> Sums:
    decode = msgspec.msgpack.decode
    return Sums(
        reports=row.reports,
        frames=row.frames,
        dropped=row.dropped,
        parts=row.parts,
        same=row.same,
        score=row.score,
        cells=decode(row.cells, type=dict[int, int]),
        infer=decode(row.infer, type=dict[int, int]),
        quality=decode(row.quality, type=list[int]),
    )


def _number(tx: Connection, key: str) -> int:
    return int(tx.scalar(select(META.c.value).where(META.c.key == key)) or 0)


def _set(tx: Connection, key: str, value: str) -> None:
    upsert(tx, META, [{"key": key, "value": value}])
