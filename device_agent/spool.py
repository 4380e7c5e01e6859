"""Reports on disk until the monitor has them. Every frame is counted once, whatever is killed when.

SQLite in WAL mode with synchronous=FULL: what `add` returned survives a power cut. A report's key is (epoch, sequence):
the epoch is random and made with the spool, the sequence is allocated in the transaction that stores the report. Only
an acknowledgement deletes. One process at a time holds a spool, one thread uses it.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from device_agent.contract.codec import encode
from device_agent.contract.errors import BadInput, LinesideError, NotWritable
from device_agent.contract.report import DeviceReport, read_report
from device_agent.merging import SPANS_MS, first_sequence, merge, mergeable

FORMAT = 1
CAP_BYTES = 4 << 20
_ROW_BYTES = 48  # what a row costs beside its payload
_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE report (id INTEGER PRIMARY KEY AUTOINCREMENT, epoch INTEGER NOT NULL, sequence INTEGER NOT NULL,
                     payload BLOB NOT NULL, UNIQUE (epoch, sequence));
"""


class Stored(NamedTuple):
    """A report in the spool; `id` grows in the order of storing, over all epochs."""

    id: int
    epoch: int
    sequence: int
    payload: bytes


class Damaged(LinesideError):
    """The spool's file is corrupt; `salvage.open_spool` moves it aside and saves what can be read."""


class Spool:
    """The spool in `path`, made if it is not there, with a new boot begun.

    `crashed` says that the last boot did not end with `close`.

    Raises:
        BadInput: another process holds it, or a later version made it.
        NotWritable: the folder is read-only or the disk full.
        Damaged: the file is corrupt.
    """

    def __init__(self, path: Path, *, cap_bytes: int = CAP_BYTES, wall: Callable[[], float] = time.time) -> None:
        self.path, self._cap_bytes = path, cap_bytes
        self._database: sqlite3.Connection | None = None
        try:
            with self._guard():
                path.parent.mkdir(parents=True, exist_ok=True)
                self._database = sqlite3.connect(path, timeout=0.2, isolation_level=None, check_same_thread=False)
                self._prepare(wall)
        except BaseException:
            self.abandon()
            raise

    def _prepare(self, wall: Callable[[], float]) -> None:
        for setting in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=FULL"):
            self._run(f"PRAGMA {setting}")
        if self._run("PRAGMA quick_check").fetchone() != ("ok",):
            raise Damaged(f"{self.path}: does not pass SQLite's integrity check")
        with self._transaction():
            if not self._run("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
                for statement in _TABLES.split(";")[:-1]:
                    self._run(statement)
                self._write_meta(format=FORMAT, epoch=secrets.randbits(32), next=1, boot=_first_boot(wall()) - 1)
                self._write_meta(clean=1, published=0)
            meta: dict[str, int] = dict(self._run("SELECT name, value FROM meta").fetchall())
            if meta.get("format", 0) > FORMAT:
                raise BadInput(f"{self.path}: format {meta['format']} cannot be read, this version reads {FORMAT}")
            if not {"epoch", "next", "boot", "clean", "published"} <= set(meta):
                raise Damaged(f"{self.path}: its table of numbers is not complete")
            self._write_meta(boot=meta["boot"] + 1, clean=0)
        self.epoch, self.boot, self.crashed = meta["epoch"], meta["boot"] + 1, not meta["clean"]
        self._next, self._published = meta["next"], meta["published"]
        self.last_id = int(self._run("SELECT coalesce(max(seq), 0) FROM sqlite_sequence").fetchone()[0])
        self._bytes = self._sum_bytes()

    @property
    def next_sequence(self) -> int:
        """The sequence that the next report will have."""
        return self._next

    def add(self, report: DeviceReport) -> Stored:
        """Store a report under the next sequence; epoch, sequence and boot are filled in.

        Raises:
            NotWritable: the disk is full or failing; nothing was stored.
            Damaged: the file is corrupt.
        """
        report = msgspec.structs.replace(report, epoch=self.epoch, sequence=self._next, boot=self.boot)
        payload = encode(report)
        with self._guard(), self._transaction():
            row = self._insert(report.epoch, report.sequence, payload)
            self._write_meta(next=self._next + 1, published=self._published)
        self._next, self.last_id = self._next + 1, row
        self._bytes += len(payload) + _ROW_BYTES
        return Stored(row, report.epoch, report.sequence, payload)

    def restore(self, epoch: int, sequence: int, payload: bytes) -> None:
        """Store a salvaged report under the key that it had."""
        with self._guard(), self._transaction():
            self.last_id = self._insert(epoch, sequence, payload)
        self._bytes += len(payload) + _ROW_BYTES

    def _insert(self, epoch: int, sequence: int, payload: bytes) -> int:
        values = (epoch, sequence, payload)
        return int(self._run("INSERT INTO report (epoch, sequence, payload) VALUES (?, ?, ?)", values).lastrowid or 0)

    def pending(self, after: int = 0, *, up_to: int = 2**62, limit: int = 60) -> list[Stored]:
        """Reports that are not acknowledged, in the order of storing, with ids over `after` and at most `up_to`."""
        query = "SELECT id, epoch, sequence, payload FROM report WHERE id > ? AND id <= ? ORDER BY id LIMIT ?"
        with self._guard():
            return [Stored(*row) for row in self._run(query, (after, up_to, limit))]

    def published(self, last_id: int) -> None:
        """Remember that reports up to this id were handed to a broker; written with the next report or acknowledgement.

        A crash before that makes a published report look unpublished. That matters only to `shrink`, and the merged
        report names the range for which the monitor then subtracts what it holds.
        """
        self._published = max(self._published, last_id)

    def acknowledge(self, epoch: int, sequence: int) -> int:
        """Delete the reports of `epoch` up to `sequence`; how many there were.

        Raises:
            BadInput: that sequence was never allocated; nothing is deleted.
        """
        if epoch == self.epoch and sequence >= self._next:
            raise BadInput(f"acknowledged sequence {sequence} was never sent, the last is {self._next - 1}")
        with self._guard(), self._transaction():
            gone = self._run("DELETE FROM report WHERE epoch = ? AND sequence <= ?", (epoch, sequence)).rowcount
            self._write_meta(published=self._published)
        if gone:
            self._bytes = self._sum_bytes()
        return gone

    def shrink(self) -> int:
        """Merge the oldest reports until the spool is under its cap; how many rows that saved.

        Those that were never published come first, into ten minutes, then hours, then days. When that is not enough,
        published ones are merged as well: the range in the merged report tells the monitor what it replaces.
        """
        saved = 0
        for oldest in (self._published, 0):
            for span_ms in SPANS_MS:
                if self._bytes > self._cap_bytes:
                    saved += self._merge_runs(oldest, span_ms)
        return saved

    def _merge_runs(self, after: int, span_ms: int) -> int:
        saved, run = 0, list[tuple[int, DeviceReport]]()
        for row in self.pending(after, limit=-1):
            report = read_report(row.payload)
            span = sum(one.interval_ms for _, one in run) + report.interval_ms
            if run and not (mergeable(run[-1][1], report) and span <= span_ms):
                saved += self._replace_run(run)
                run = []
                if self._bytes <= self._cap_bytes * 3 // 4:  # room for a while
                    return saved
            run.append((row.id, report))
        return saved + self._replace_run(run)

    def _replace_run(self, run: list[tuple[int, DeviceReport]]) -> int:
        if len(run) < 2:
            return 0
        merged = merge([report for _, report in run])
        with self._guard(), self._transaction():
            low = first_sequence(merged)
            self._run(
                "DELETE FROM report WHERE epoch = ? AND sequence >= ? AND sequence < ?",
                (merged.epoch, low, merged.sequence),
            )
            self._run("UPDATE report SET payload = ? WHERE id = ?", (encode(merged), run[-1][0]))
            self._write_meta(published=self._published)
        self._bytes = self._sum_bytes()
        return len(run) - 1

    def close(self) -> None:
        """End this boot in order."""
        try:
            with self._guard(), self._transaction():
                self._write_meta(clean=1, published=self._published)
        finally:
            self.abandon()

    @property
    def closed(self) -> bool:
        """Was it closed or abandoned?"""
        return self._database is None

    def abandon(self) -> None:
        """Let go of the file without ending the boot."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def _sum_bytes(self) -> int:
        query = f"SELECT coalesce(sum(length(payload) + {_ROW_BYTES}), 0) FROM report"
        return int(self._run(query).fetchone()[0])

    def _write_meta(self, **values: int) -> None:
        for name, value in values.items():
            self._run("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    def _run(self, statement: str, values: tuple[Any, ...] = ()) -> sqlite3.Cursor:
        if self._database is None:
            raise NotWritable(f"{self.path}: the spool is closed")
        return self._database.execute(statement, values)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._run("BEGIN IMMEDIATE")
        try:
            yield
            self._run("COMMIT")
        except BaseException:
            if self._database is not None and self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise

    @contextmanager
    def _guard(self) -> Iterator[None]:
        """SQLite's and the system's errors as ours."""
        try:
            yield
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise BadInput(f"{self.path}: another agent uses this state folder") from error
            raise NotWritable(f"{self.path}: {str(error).lower()}") from error
        except sqlite3.DatabaseError as error:
            raise Damaged(f"{self.path}: {str(error).lower()}") from error
        except OSError as error:
            if isinstance(error, NotWritable):
                raise
            raise NotWritable(f"{self.path}: {(error.strerror or os.fspath(self.path)).lower()}") from error


def _first_boot(wall_s: float) -> int:
    """Boots of a new spool are counted from the minute in which it was made, so that the monitor does not take a device
    whose disk was replaced for an older session of itself."""
    return min(max(1, int(wall_s // 60)), 2**31)
