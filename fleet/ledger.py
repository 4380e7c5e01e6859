"""The ledger of reports: each stored once, merged ones in the place of what they stand for, and what may be acked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby, islice
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from sqlalchemy import bindparam, delete, func, select, tuple_
from sqlalchemy.engine import Connection, Row

from device_agent.contract.histogram import dense_cells, sparse_counts
from device_agent.contract.report import CLOCK_SYNCED, DeviceReport, read_report
from fleet.inbox import Arrival
from fleet.retention import forgotten_ms
from fleet.schema import BOOT, REPORT, SPOOL
from fleet.store import append, upsert
from fleet.watermark import Watermark

Key = tuple[str, int, int]
COLUMNS = (
    "device", "epoch", "sequence", "first", "at_ms", "received_ms", "interval_ms", "model", "frames", "dropped",
    "score", "payload", "batch", "live",
)  # fmt: skip
CHUNK = 300
UNKNOWN = 2**62
BOOTS = 100
"""So many boots of a device are remembered by their clocks."""
LATEST_MS = 2 * 3_600_000
"""A live report expires after an hour on the broker: one that seems later than this shows that a clock was set."""


class Entry(msgspec.Struct):
    """A report that is new. `cells` (flat, cell and count), `frames`, `same` and `identical` are what it adds: for a
    merged report less what was already held of its range. `live`: it came right after the interval that it tells of.
    `lessened`: what it adds is not what it says."""

    device: str
    report: DeviceReport
    payload: bytes
    received_ms: int
    at_ms: int
    cells: list[int]
    frames: int
    dropped: int
    same: int
    identical: int
    live: bool = False
    score: float | None = None
    lessened: bool = False

    def counts(self) -> NDArray[np.int64]:
        """What it adds, (classes, 24)."""
        return dense_cells(self.cells, self.report.histogram.classes)


class Ledger:
    """Watermarks and clock offsets of all spools in memory, the rest in the store. `apart`: devices of which something
    came since the last commit that their stored reports alone do not tell. `replaced`: device, time and payload of
    stored reports in whose place a merged one has come since then."""

    def __init__(self) -> None:
        self.marks: dict[tuple[str, int], Watermark] = {}
        self._offsets: dict[tuple[str, int], int] = {}
        self._touched: dict[tuple[str, int], None] = {}
        self._dirty: dict[str, set[int]] = defaultdict(set)
        self.apart: set[str] = set()
        self.replaced: list[tuple[str, int, bytes]] = []
        self._moved: set[tuple[str, int]] = set()
        self._begun: list[tuple[str, int]] = []

    @classmethod
    def load(cls, tx: Connection, mine: Callable[[str], bool] = lambda _device: True) -> Ledger:
        """As the store has it of the devices that are `mine`."""
        ledger = cls()
        for row in tx.execute(select(SPOOL)):
            if mine(row.device):
                ledger.marks[row.device, row.epoch] = Watermark(row.contiguous, row.missing)
        beyond = (
            select(REPORT.c.device, REPORT.c.epoch, REPORT.c.first, REPORT.c.sequence)
            .join(SPOOL, (SPOOL.c.device == REPORT.c.device) & (SPOOL.c.epoch == REPORT.c.epoch))
            .where(REPORT.c.sequence > SPOOL.c.contiguous)
        )
        for device, epoch, first, sequence in tx.execute(beyond):
            if mine(device):
                ledger.marks[device, epoch].add(first, sequence)
        for row in tx.execute(select(BOOT)):
            if mine(row.device):
                ledger._offsets[row.device, row.boot] = row.offset_ms
        return ledger

    def take(self, tx: Connection, arrivals: list[Arrival]) -> list[Entry]:
        """Those of `arrivals` that are new, in order of device, epoch and sequence; what a merged one replaces is
        deleted. `write` stores them."""
        entries: list[Entry] = []
        others: list[Arrival] = []
        apart = {(arrival.device, arrival.report.epoch) for arrival in arrivals if arrival.report.merged}
        for arrival in arrivals:
            report = arrival.report
            if arrival.live:
                self._observe_clock(arrival)
            spool = (arrival.device, report.epoch)
            mark = self.marks.get(spool)
            if mark is not None and spool not in apart and mark.follow(report.sequence):
                self._touch(spool)
                entries.append(_entry(arrival, self._time(arrival)))
            else:
                apart.add(spool)
                others.append(arrival)
        if others:
            fresh = {(entry.device, entry.report.epoch, entry.report.sequence) for entry in entries}
            entries += self._take_apart(tx, others, fresh)
        if others or len({entry.device for entry in entries}) < len(entries):
            entries.sort(key=lambda entry: (entry.device, entry.report.epoch, entry.report.sequence))
        return entries

    def _take_apart(self, tx: Connection, arrivals: list[Arrival], fresh: set[Key]) -> list[Entry]:
        """Those of the arrivals that are new, where they are not just the next ones of their spools; `fresh` are taken
        already."""
        unique: dict[Key, Arrival] = {}
        for arrival in arrivals:
            key = (arrival.device, arrival.report.epoch, arrival.report.sequence)
            if key not in unique or first_of(arrival.report) < first_of(unique[key].report):
                unique[key] = arrival
        held = self._held(tx, unique) | fresh
        entries: dict[Key, Entry] = {}
        for key in sorted(unique.keys() - held):
            entry = _entry(unique[key], self._time(unique[key]))
            if entry.report.merged:
                entry = self._merge(tx, key, entry, entries)
            entries[key] = entry
        for key, arrival in unique.items():
            self.cover(key[0], key[1], key[2], first=first_of(arrival.report), at_ms=arrival.received_ms)
        return list(entries.values())

    def cover(self, device: str, epoch: int, sequence: int, *, first: int | None = None, at_ms: int = 0) -> None:
        """Count a sequence as held, as a report or in quarantine."""
        spool = (device, epoch)
        mark = self.marks.setdefault(spool, Watermark())
        mark.add(sequence if first is None else first, sequence, at_ms)
        self._touch(spool)
        self.apart.add(device)

    def await_again(self, device: str, epoch: int, sequence: int, *, at_ms: int = 0) -> None:
        """A report that could be neither read nor kept: its device still holds it, so it is not passed as lost."""
        mark = self.marks.get((device, epoch))
        if mark is not None:
            mark.await_again(sequence, at_ms)

    def forget_clocks(self, device: str | None = None) -> None:
        """Learn the offsets of a device, or of all, anew: its boots are counted from the start, or our clock moved."""
        for key in [key for key in self._offsets if device in (None, key[0])]:
            self._offsets[key] = UNKNOWN
            self._moved.add(key)

    def write(self, tx: Connection, entries: list[Entry], batch: int) -> None:
        """Store the entries of a batch, and the clock offsets that they moved."""
        if entries:
            append(tx, REPORT, COLUMNS, [_row(entry, batch) for entry in entries])
        old = [{"of": device, "last": boot - BOOTS} for device, boot in self._begun if boot > BOOTS]
        if old:
            tx.execute(delete(BOOT).where(BOOT.c.device == bindparam("of"), BOOT.c.boot <= bindparam("last")), old)
        self._begun.clear()
        at = sorted(self._moved & self._offsets.keys())
        moved = [{"device": device, "boot": boot, "offset_ms": self._offsets[device, boot]} for device, boot in at]
        upsert(tx, BOOT, moved)

    def write_marks(self, tx: Connection, devices: list[str]) -> None:
        """Store the watermarks of devices that moved since they were stored last."""
        rows = []
        for device in devices:
            for epoch in self._dirty.pop(device, ()):
                mark = self.marks[device, epoch]
                rows.append({"device": device, "epoch": epoch, "contiguous": mark.contiguous, "missing": mark.missing})
        upsert(tx, SPOOL, rows)

    def acknowledge(self) -> list[tuple[str, int, int]]:
        """Device, epoch and sequence of spools heard of since they were acknowledged; only after the commit."""
        self._moved.clear()
        self.apart.clear()
        self.replaced.clear()
        due, self._touched = self._touched, {}
        return [(device, epoch, self.marks[device, epoch].contiguous) for device, epoch in due]

    def _touch(self, spool: tuple[str, int]) -> None:
        self._touched[spool] = None
        self._dirty[spool[0]].add(spool[1])

    def _observe_clock(self, arrival: Arrival) -> None:
        key, offset = (arrival.device, arrival.report.boot), arrival.received_ms - arrival.report.monotonic_ms
        known = self._offsets.get(key)
        if known is None:
            known = UNKNOWN
            self._begun.append(key)
            self._offsets.pop((arrival.device, arrival.report.boot - BOOTS), None)
        if offset < known or offset - known > LATEST_MS:
            self._offsets[key] = offset
            self._moved.add(key)

    def _time(self, arrival: Arrival) -> int:
        """Wall-clock ms of a report: repaired where the boot's offset is known, else the device's own word."""
        report = arrival.report
        offset = self._offsets.get((arrival.device, report.boot))
        if offset is not None and offset != UNKNOWN:
            return max(min(report.monotonic_ms + offset, arrival.received_ms), 0)
        return min(report.wall_ms, arrival.received_ms) if report.flags & CLOCK_SYNCED else arrival.received_ms

    def _held(self, tx: Connection, unique: dict[Key, Arrival]) -> set[Key]:
        """Keys that the store already holds, as themselves or inside of a merged report."""
        old = [key for key in unique if self._may_be_held(key)]
        found = self._removed(tx, unique, old) if old and forgotten_ms(tx) else set()
        columns = tuple_(REPORT.c.device, REPORT.c.epoch, REPORT.c.sequence)
        for chunk in _chunks(old):
            asked = select(REPORT.c.device, REPORT.c.epoch, REPORT.c.sequence, REPORT.c.first).where(columns.in_(chunk))
            for device, epoch, sequence, first in tx.execute(asked):
                key = (device, epoch, sequence)
                if first <= first_of(unique[key].report):
                    found.add(key)
        wide = _ranges(tx, {key[:2] for key in old}) if old else {}
        for key in old:
            if any(first <= key[2] < last for first, last in wide.get(key[:2], [])):
                found.add(key)
        return found

    def _removed(self, tx: Connection, unique: dict[Key, Arrival], old: list[Key]) -> set[Key]:
        """Those of the keys whose reports were stored once and are gone, as they were over their time: nothing up to
        them is missing, and they are older than what is kept, or lie before the first report of their spool that is."""
        passed = [key for key in old if key[2] <= self.marks[key[:2]].contiguous]
        spools: dict[tuple[str, int], int] = {}
        for device, epoch in {key[:2] for key in passed}:
            first = select(func.min(REPORT.c.sequence)).where(REPORT.c.device == device, REPORT.c.epoch == epoch)
            spools[device, epoch] = tx.scalar(first) or UNKNOWN
        until_ms = forgotten_ms(tx)
        return {key for key in passed if key[2] < spools[key[:2]] or self._time(unique[key]) < until_ms}

    def _may_be_held(self, key: Key) -> bool:
        mark = self.marks.get(key[:2])
        return mark is not None and key[2] <= mark.highest

    def _merge(self, tx: Connection, key: Key, entry: Entry, entries: dict[Key, Entry]) -> Entry:
        """The entry less what is held of its range; those rows and entries go."""
        device, epoch, last = key
        first = first_of(entry.report)
        for inner in [k for k in entries if k[:2] == (device, epoch) and first <= k[2] < last]:
            del entries[inner]
        inside = (
            (REPORT.c.device == device)
            & (REPORT.c.epoch == epoch)
            & (REPORT.c.first >= first)
            & (REPORT.c.sequence <= last)
        )
        rows = tx.execute(select(REPORT.c.payload, REPORT.c.at_ms).where(inside)).all()
        self.replaced += [(device, row.at_ms, row.payload) for row in rows]
        if rows:
            tx.execute(delete(REPORT).where(inside))
        return _subtract(entry, rows)


def stored_after(
    tx: Connection, batch: int, seen: dict[str, int], mine: Callable[[str], bool] = lambda _device: True
) -> Iterator[tuple[int, list[Entry]]]:
    """Stored reports of later batches than `batch`, batch by batch as `take` gave them; of a device only those of
    batches after the one that it has `seen`. Only of devices that are `mine`."""
    columns = [REPORT.c[name] for name in ("batch", "device", "received_ms", "at_ms", "live", "payload")]
    asked = select(*columns).where(REPORT.c.batch > batch)
    rows = tx.execute(asked.order_by(REPORT.c.batch, REPORT.c.device, REPORT.c.epoch, REPORT.c.sequence))
    for number, part in groupby(rows, key=lambda row: row.batch):
        yield number, [_stored(row) for row in part if number > seen.get(row.device, 0) and mine(row.device)]


def _stored(row: Row[Any]) -> Entry:
    return _entry(Arrival(row.device, read_report(row.payload), row.payload, row.received_ms, row.live), row.at_ms)


def _entry(arrival: Arrival, at_ms: int) -> Entry:
    device, report, payload, received_ms, live = arrival
    cells = report.histogram.cells
    counts = report.frames, report.dropped, report.same, report.identical
    return Entry(device, report, payload, received_ms, at_ms, cells, *counts, live)


def _subtract(entry: Entry, rows: Iterable[Any]) -> Entry:
    for row in rows:
        entry.lessened = True
        held = read_report(row.payload)
        if held.model == entry.report.model and held.histogram.classes == entry.report.histogram.classes:
            entry.cells = sparse_counts(np.maximum(entry.counts() - held.histogram.dense(), 0))
            entry.same = max(entry.same - held.same, 0)
            entry.identical = max(entry.identical - held.identical, 0)
        entry.frames -= held.frames
        entry.dropped -= held.dropped
    return entry


def first_of(report: DeviceReport) -> int:
    """First sequence that a report stands for."""
    return report.merged[0] if report.merged else report.sequence


def _ranges(tx: Connection, spools: set[tuple[str, int]]) -> dict[tuple[str, int], list[tuple[int, int]]]:
    found: dict[tuple[str, int], list[tuple[int, int]]] = defaultdict(list)
    spool = tuple_(REPORT.c.device, REPORT.c.epoch)
    for chunk in _chunks(sorted(spools)):
        asked = select(REPORT.c.device, REPORT.c.epoch, REPORT.c.first, REPORT.c.sequence).where(
            spool.in_(chunk), REPORT.c.first < REPORT.c.sequence
        )
        for device, epoch, first, last in tx.execute(asked):
            found[device, epoch].append((first, last))
    return found


def _row(entry: Entry, batch: int) -> tuple[object, ...]:
    """In the order of `COLUMNS`."""
    report = entry.report
    return (
        entry.device, report.epoch, report.sequence, first_of(report), entry.at_ms, entry.received_ms,
        report.interval_ms, report.model.hex(), report.frames, report.dropped, entry.score, entry.payload, batch,
        entry.live,
    )  # fmt: skip


def _chunks(items: list[tuple[str, int]] | list[Key]) -> Iterable[list[tuple[str, int]] | list[Key]]:
    rest = iter(items)
    while chunk := list(islice(rest, CHUNK)):
        yield chunk  # type: ignore[misc]
