"""Reports on disk until the monitor has them. Every frame is counted once, whatever is killed when.

SQLite in WAL mode with synchronous=FULL: what `add` returned survives a power cut. A report's key is (epoch, sequence):
the sequence is allocated in the transaction that stores the report; the epoch is random, and a new one after every boot
that did not end in order, because a damaged log would let numbers be allocated again. Only an acknowledgement deletes.
A row carries a CRC-32, so that a bit that flipped on disk is never sent as truth and stops nothing else. One process at
a time holds a spool, one thread uses it.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from device_agent.contract.codec import encode
from device_agent.contract.errors import BadInput, LinesideError, NotWritable
from device_agent.contract.report import GAP, DeviceReport, read_report
from device_agent.merging import SPANS_MS, merge, mergeable

FORMAT = 2
CAP_BYTES = 4 << 20
_ROW_BYTES = 48  # what a row costs beside its payload
_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE report (id INTEGER PRIMARY KEY AUTOINCREMENT, epoch INTEGER NOT NULL, sequence INTEGER NOT NULL,
                     payload BLOB NOT NULL, handed INTEGER NOT NULL, crc INTEGER NOT NULL);
"""
_COLUMNS = "id, CAST(epoch AS INTEGER), CAST(sequence AS INTEGER), CAST(payload AS BLOB), handed, crc"
_META = {"format", "epoch", "next", "boot", "clean"}
Event = Callable[[str, str], None]
Row = tuple[int, int, int, bytes, int, int]


class Stored(NamedTuple):
    """A report in the spool; `id` grows in the order of storing, over all epochs. `handed`: it may have been sent."""

    id: int
    epoch: int
    sequence: int
    payload: bytes
    handed: bool
    report: DeviceReport


class Salvaged(NamedTuple):
    """A report as it was found in a damaged spool."""

    epoch: int
    sequence: int
    payload: bytes
    handed: bool


class Acknowledged(NamedTuple):
    """How many reports an acknowledgement deleted, and how many it named that were never sent and are kept."""

    gone: int
    kept: int


class Damaged(LinesideError):
    """The spool's file is corrupt; `salvage.open_spool` moves it aside and saves what can be read."""


class Spool:
    """The spool in `path`, made if it is not there, with a new boot begun.

    `crashed` says that the last boot did not end with `close`. Reports that cannot be read any more are taken out, with
    an event report_damaged that names them. After either the next report that is stored carries the flag GAP, so that
    the monitor hears of it as surely as of the report.

    Raises:
        BadInput: another process holds it, or a later version made it.
        NotWritable: the folder is read-only or the disk full.
        Damaged: the file is corrupt, or of an earlier format.
    """

    def __init__(
        self,
        path: Path,
        *,
        cap_bytes: int = CAP_BYTES,
        wall: Callable[[], float] = time.time,
        event: Event = lambda _kind, _text: None,
    ) -> None:
        self.path, self._cap_bytes, self._event = path, cap_bytes, event
        self._database: sqlite3.Connection | None = None
        self._meta: dict[str, int] = {}
        self._bytes = self._stuck_bytes = 0
        try:
            with self._guard():
                path.parent.mkdir(parents=True, exist_ok=True)
                self._database = sqlite3.connect(path, timeout=0.2, isolation_level=None, check_same_thread=False)
                self._prepare(wall)
        except BaseException:
            self.abandon()
            raise

    def _prepare(self, wall: Callable[[], float]) -> None:
        for setting in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=FULL", "wal_autocheckpoint=100"):
            self._run(f"PRAGMA {setting}")
        if self._run("PRAGMA quick_check").fetchone() != ("ok",):
            raise Damaged(f"{self.path}: does not pass SQLite's integrity check")
        with self._transaction():
            if not self._run("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
                for statement in _TABLES.split(";")[:-1]:
                    self._run(statement)
                self._write_meta(format=FORMAT, boot=_first_boot(wall()) - 1, clean=1, **_new_epoch())
            self._meta = self._read_meta()
            self.crashed = self.gap_due = not self._meta["clean"]
            self._write_meta(boot=self._meta["boot"] + 1, clean=0, **(_new_epoch() if self.crashed else {}))
        self._run("PRAGMA wal_checkpoint(TRUNCATE)")  # a boot and an epoch are never begun twice
        self.last_id = int(self._run("SELECT coalesce(max(seq), 0) FROM sqlite_sequence").fetchone()[0])
        self._bytes = self._sum_bytes()
        self._take_out([row for row in self._run(f"SELECT {_COLUMNS} FROM report") if not _is_intact(row)])

    def _read_meta(self) -> dict[str, int]:
        meta: dict[str, int] = dict(self._run("SELECT name, value FROM meta").fetchall())
        check, version = meta.pop("crc", None), meta.get("format", 0)
        if version > FORMAT:
            raise BadInput(f"{self.path}: format {version} cannot be read, this version reads {FORMAT}")
        if version < FORMAT:
            raise Damaged(f"{self.path}: is of the earlier format {version}")
        if set(meta) != _META or check != _check_of(meta):
            raise Damaged(f"{self.path}: its table of numbers is not as it was written")
        return meta

    @property
    def epoch(self) -> int:
        """The epoch of the reports to come."""
        return self._meta["epoch"]

    @property
    def boot(self) -> int:
        """The number of this boot."""
        return self._meta["boot"]

    @property
    def next_sequence(self) -> int:
        """The sequence that the next report will have."""
        return self._meta["next"]

    def add(self, report: DeviceReport, *, handed: bool = False) -> Stored:
        """Store a report under the next sequence; epoch, sequence and boot are filled in. `handed`: it is about to be
        sent.

        Raises:
            NotWritable: the disk is full or failing; nothing was stored.
            Damaged: the file is corrupt.
        """
        sequence = self.next_sequence
        flags = report.flags | (GAP if self.gap_due else 0)
        report = msgspec.structs.replace(report, epoch=self.epoch, sequence=sequence, boot=self.boot, flags=flags)
        payload = encode(report)
        with self._guard(), self._transaction():
            row = self._insert(Salvaged(self.epoch, sequence, payload, handed))
            self._write_meta(next=sequence + 1)
        self.last_id, self.gap_due = row, False
        return Stored(row, self.epoch, sequence, payload, handed, report)

    def restore(self, reports: Iterable[Salvaged]) -> None:
        """Store salvaged reports under the keys that they had, all of them or none."""
        with self._guard(), self._transaction():
            for one in reports:
                self.last_id = self._insert(one)

    def _insert(self, one: Salvaged) -> int:
        self._bytes += len(one.payload) + _ROW_BYTES
        return int(
            self._run(
                "INSERT INTO report (epoch, sequence, payload, handed, crc) VALUES (?, ?, ?, ?, ?)",
                (*one, checksum(*one[:3])),
            ).lastrowid
            or 0
        )

    def pending(self, after: int = 0, *, up_to: int = 2**62, limit: int = 60) -> list[Stored]:
        """Reports that are not acknowledged, in the order of storing, with ids over `after` and at most `up_to`."""
        query = f"SELECT {_COLUMNS} FROM report WHERE id > ? AND id <= ? ORDER BY id LIMIT ?"
        while True:
            with self._guard():
                rows = self._run(query, (after, up_to, limit)).fetchall()
            found = [_read_row(row) for row in rows]
            sound = [one for one in found if one is not None]
            if len(sound) == len(rows):
                return sound
            self._take_out([row for row, one in zip(rows, found, strict=True) if one is None])

    def _take_out(self, rows: list[Row]) -> None:
        """Delete rows that cannot be read, and name them."""
        if not rows:
            return
        with self._guard(), self._transaction():
            for row in rows:
                self._run("DELETE FROM report WHERE id = ?", row[:1])
        self._bytes, self.gap_due = self._sum_bytes(), True
        names = ", ".join(str(row[2]) for row in rows[:20]) + (" ..." if len(rows) > 20 else "")
        self._event("report_damaged", f"lost by damage on disk: the reports with sequence {names}")

    def count(self) -> int:
        """How many reports wait."""
        with self._guard():
            return int(self._run("SELECT count(*) FROM report").fetchone()[0])

    def hand(self, first_id: int, last_id: int) -> None:
        """Note that the reports with these ids are about to be sent: only such can be acknowledged."""
        with self._guard(), self._transaction():
            self._run("UPDATE report SET handed = 1 WHERE id >= ? AND id <= ? AND NOT handed", (first_id, last_id))

    def acknowledge(self, epoch: int, sequence: int) -> Acknowledged:
        """Delete the reports of `epoch` up to `sequence`; those among them that were never sent are kept.

        Raises:
            BadInput: that sequence was never allocated; nothing is deleted.
        """
        if epoch == self.epoch and sequence >= self.next_sequence:
            raise BadInput(f"acknowledged sequence {sequence} was never sent, the last is {self.next_sequence - 1}")
        query = "SELECT id, length(CAST(payload AS BLOB)), NOT handed FROM report WHERE epoch = ? AND sequence <= ?"
        with self._guard(), self._transaction():
            named = self._run(query, (epoch, sequence)).fetchall()  # the one scan: only ids have an index
            gone = [(row, size) for row, size, unsent in named if not unsent]
            for row, size in gone:
                self._run("DELETE FROM report WHERE id = ?", (row,))
                self._bytes -= size + _ROW_BYTES
        if gone:
            self._stuck_bytes = 0
        return Acknowledged(len(gone), len(named) - len(gone))

    def shrink(self) -> int:
        """Merge the oldest reports until the spool is under its cap; how many rows that saved.

        Those that were never sent come first, into ten minutes, then hours, then days. When that is not enough, sent
        ones are merged as well: the range in the merged report tells the monitor what it replaces. What cannot be
        merged stays: when that left next to no room, the next attempt waits for a sixteenth of the cap more.
        """
        if self._bytes <= max(self._cap_bytes, self._stuck_bytes):
            return 0
        saved = 0
        with self._guard(), self._transaction():
            for unsent_only in (True, False):
                more = True
                for span_ms in SPANS_MS:
                    if more and self._bytes > self._cap_bytes:
                        gain, more = self._merge_runs(unsent_only, span_ms)
                        saved += gain
        step = self._cap_bytes // 16
        self._stuck_bytes = self._bytes + step if self._bytes > self._cap_bytes - step else 0
        return saved

    def _merge_runs(self, unsent_only: bool, span_ms: int) -> tuple[int, bool]:
        """How many rows that saved, and whether a longer span would save more."""
        saved, span, run, more = 0, 0, list[Stored](), False
        for row in self._walk(unsent_only):
            alike = bool(run) and mergeable(run[-1].report, row.report)
            if run and not (alike and span + row.report.interval_ms <= span_ms):
                more |= alike
                saved += self._replace_run(run)
                span, run = 0, []
                if self._bytes <= self._cap_bytes * 3 // 4:  # room for a while
                    return saved, more
            run.append(row)
            span += row.report.interval_ms
        return saved + self._replace_run(run), more

    def _walk(self, unsent_only: bool) -> Iterator[Stored]:
        last = 0
        while page := self.pending(last):
            last = page[-1].id
            yield from (row for row in page if not (unsent_only and row.handed))

    def _replace_run(self, run: list[Stored]) -> int:
        if len(run) < 2:
            return 0
        *gone, last = run
        payload = encode(merge([row.report for row in run]))
        for row in gone:
            self._run("DELETE FROM report WHERE id = ?", (row.id,))
        crc = checksum(last.epoch, last.sequence, payload)
        self._run("UPDATE report SET payload = ?, crc = ? WHERE id = ?", (payload, crc, last.id))
        self._bytes += len(payload) + _ROW_BYTES - sum(len(row.payload) + _ROW_BYTES for row in run)
        return len(gone)

    def close(self) -> None:
        """End this boot in order; a gap that no report has told of yet is left to the next boot."""
        try:
            with self._guard(), self._transaction():
                self._write_meta(clean=int(not self.gap_due))
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Let go of the file without ending the boot."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def condemn(self) -> None:
        """Let go of the file, which turned out to be corrupt in use; the next start salvages it."""
        self.abandon()
        with suppress(OSError):
            condemned(self.path).touch()

    def _sum_bytes(self) -> int:
        query = f"SELECT coalesce(sum(length(payload) + {_ROW_BYTES}), 0) FROM report"
        return int(self._run(query).fetchone()[0])

    def _write_meta(self, **values: int) -> None:
        self._meta = {**self._meta, **values}
        for name, value in {**values, "crc": _check_of(self._meta)}.items():
            self._run("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    def _run(self, statement: str, values: tuple[Any, ...] = ()) -> sqlite3.Cursor:
        if self._database is None:
            raise NotWritable(f"{self.path}: the spool is closed")
        return self._database.execute(statement, values)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All or nothing; inside of another, a part of that."""
        if self._database is not None and self._database.in_transaction:
            yield
            return
        before = self._meta, self._bytes
        self._run("BEGIN IMMEDIATE")
        try:
            yield
            self._run("COMMIT")
        except BaseException:
            self._meta, self._bytes = before
            if self._database is not None and self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise

    @contextmanager
    def _guard(self) -> Iterator[None]:
        """SQLite's and the system's errors as ours."""
        try:
            yield
        except sqlite3.OperationalError as error:
            said = str(error).lower()
            if "locked" in said:
                raise BadInput(f"{self.path}: another agent uses this state folder") from error
            wrong = any(words in said for words in ("no such", "already exists", "column"))
            raise (Damaged if wrong else NotWritable)(f"{self.path}: {said}") from error
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # even its messages are not always text
            raise Damaged(f"{self.path}: {str(error).lower()}") from error
        except OSError as error:
            if isinstance(error, NotWritable):
                raise
            raise NotWritable(f"{self.path}: {(error.strerror or os.fspath(self.path)).lower()}") from error


def is_held(path: Path) -> bool:
    """Does a running process hold the spool in `path`? The kernel is asked, so that its folder stays as it is; False
    where the kernel does not tell."""
    try:
        inode, locks = path.stat().st_ino, Path("/proc/locks").read_text()
    except OSError:
        return False
    return any(f":{inode} " in line for line in locks.splitlines())


def condemned(path: Path) -> Path:
    """The file that says that the spool in `path` is corrupt, though it passes the checks at the start."""
    return path.with_name(f"{path.name}.condemned")


def checksum(epoch: int, sequence: int, payload: bytes) -> int:
    """CRC-32 of a report with its key."""
    return zlib.crc32(payload, zlib.crc32(f"{epoch} {sequence} ".encode()))


def _is_intact(row: Row) -> bool:
    _, epoch, sequence, payload, _, crc = row
    return isinstance(payload, bytes) and crc == checksum(epoch, sequence, payload)


def _read_row(row: Row) -> Stored | None:
    """The report in a row; None if it is not what was written, or none that this version reads."""
    if not _is_intact(row):
        return None
    try:
        return Stored(*row[:4], bool(row[4]), read_report(row[3]))
    except BadInput:
        return None


def _new_epoch() -> dict[str, int]:
    return {"epoch": secrets.randbits(32), "next": 1}


def _check_of(meta: dict[str, int]) -> int:
    return zlib.crc32(repr(sorted(meta.items())).encode())


def _first_boot(wall_s: float) -> int:
    """Boots of a new spool are counted from the minute in which it was made, so that the monitor does not take a device
    whose disk was replaced for an older session of itself."""
    return min(max(1, int(wall_s // 60)), 2**31)
