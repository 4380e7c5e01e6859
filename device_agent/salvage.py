"""A corrupt spool is moved aside, never deleted; what can be read of it goes into a new one.

Everything that can be read is in the new spool, under a name of its own, before the old one is touched; a kill at any
moment leaves either the damaged spool or the finished new one, and the next start goes on from there.
"""

from __future__ import annotations

import errno
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from device_agent.contract.errors import BadInput, NotWritable
from device_agent.contract.files import replacing, sweep
from device_agent.contract.report import read_report
from device_agent.spool import CAP_BYTES, Damaged, Event, Salvaged, Spool, checksum, condemned

NAME = "spool.db"
_BUILDING, _FINISHED = "spool.building.db", "spool.salvaged.db"
_READING = "spool.reading"
_SUFFIXES = ("", "-wal", "-journal", "-shm")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)


def open_spool(
    folder: Path, event: Event, *, cap_bytes: int = CAP_BYTES, wall: Callable[[], float] = time.time
) -> Spool:
    """The spool in a state folder. Events: spool_salvaged after damage, report_damaged for single reports, gap after a
    boot that did not end in order. After either of the first and the last the next report carries the flag GAP.

    A salvaged report keeps the key that it had, so that one which the monitor has already is not counted twice; new
    reports get the new spool's epoch.

    Raises:
        BadInput: another process holds it, or a later version made it.
        NotWritable: the folder is read-only or the disk full.
        Damaged: the new spool is corrupt as well.
    """
    path, why, kept = folder / NAME, "its salvage was interrupted", ""
    _sweep(folder)
    if list(folder.glob(_FINISHED)):
        kept = _put_in_place(path, wall())
    try:
        if list(folder.glob(condemned(path).name)):
            raise Damaged(f"{path}: turned out to be corrupt in use")
        spool = Spool(path, cap_bytes=cap_bytes, wall=wall, event=event)
    except Damaged as damage:
        why = str(damage)
        _build(folder, _read_what_is_left(path), wall)
        kept = _put_in_place(path, wall())
        spool = Spool(path, cap_bytes=cap_bytes, wall=wall, event=event)
    if kept:
        found = len(spool.pending(limit=-1))
        event("spool_salvaged", f"{found} reports were read; the old spool is kept as {kept}: {why}"[:300])
        spool.gap_due = True
    if spool.crashed:
        event("gap", f"boot {spool.boot - 1} ended without closing its interval")
    return spool


def _sweep(folder: Path) -> None:
    """Clear what a killed salvage left half-done."""
    shutil.rmtree(folder / _READING, ignore_errors=True)
    sweep(folder, _FINISHED)


def _build(folder: Path, found: list[Salvaged], wall: Callable[[], float]) -> None:
    building = folder / _BUILDING
    with replacing(folder / _FINISHED) as temporary:
        for suffix in _SUFFIXES:
            building.with_name(building.name + suffix).unlink(missing_ok=True)
        spool = Spool(building, wall=wall)
        spool.restore(found)
        spool.close()
        building.replace(temporary)


def _put_in_place(path: Path, wall_s: float) -> str:
    """Move the damaged files aside and the finished spool to where they were; the damaged one's new name."""
    finished = path.with_name(_FINISHED)
    try:
        aside = _move_aside(path, wall_s)
        condemned(path).unlink(missing_ok=True)
        finished.rename(path)
    except OSError as error:
        raise NotWritable(f"{path}: is corrupt and cannot be moved aside: {(error.strerror or '').lower()}") from error
    return aside.name


def _move_aside(path: Path, wall_s: float) -> Path:
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(wall_s))
    taken = [path.with_name(f"spool.corrupt-{stamp}{'' if not k else f'-{k}'}.db") for k in range(1000)]
    aside = next(name for name in taken if not name.exists())
    for suffix in _SUFFIXES:
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    return aside


def _read_what_is_left(path: Path) -> list[Salvaged]:
    """Whole reports of the damaged file, read from a copy, from both ends as far as each goes.

    Raises:
        NotWritable: there is no room for the copy; the file stays where it is.
    """
    found: dict[tuple[int, int], Salvaged] = {}
    try:
        copy = path.with_name(_READING) / "copy.db"
        copy.parent.mkdir(mode=0o700, exist_ok=True)
        for suffix in _SUFFIXES[:2]:
            part = path.with_name(path.name + suffix)
            if part.exists():
                shutil.copyfile(part, copy.with_name(copy.name + suffix))
        for order in ("ASC", "DESC"):
            _collect(copy, order, found)
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise NotWritable(f"{path}: is corrupt, and there is no room to salvage it") from error
        return []  # the disk does not give the file back; it stays aside for a person to read
    finally:
        shutil.rmtree(path.with_name(_READING), ignore_errors=True)
    return sorted(found.values())


def _collect(copy: Path, order: str, found: dict[tuple[int, int], Salvaged]) -> None:
    """Add what can be read; rows of the first format have neither mark nor checksum."""
    database = sqlite3.connect(copy)
    database.text_factory = bytes
    try:
        database.execute("PRAGMA writable_schema=ON")  # else nothing is read of a file that is shorter than it says
        for _, epoch, sequence, payload, *rest in database.execute(f"SELECT * FROM report ORDER BY id {order}"):
            handed, crc = rest or (True, None)
            try:
                report = read_report(payload)
                sound = crc is None or crc == checksum(epoch, sequence, payload)
            except (BadInput, TypeError):  # this row was hit
                continue
            if sound:
                found[report.epoch, report.sequence] = Salvaged(report.epoch, report.sequence, payload, bool(handed))
    except (sqlite3.DatabaseError, ValueError):  # this is where the damage begins
        return
    finally:
        database.close()
