"""A corrupt spool is moved aside, never deleted; what can be read of it goes into a new one."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from device_agent.contract.errors import BadInput, NotWritable
from device_agent.contract.report import read_report
from device_agent.spool import CAP_BYTES, Damaged, Spool

NAME = "spool.db"
_SUFFIXES = ("", "-wal", "-journal", "-shm")


class Salvaged(NamedTuple):
    """A report as it was found: its key and payload."""

    epoch: int
    sequence: int
    payload: bytes


def open_spool(
    folder: Path,
    event: Callable[[str, str], None],
    *,
    cap_bytes: int = CAP_BYTES,
    wall: Callable[[], float] = time.time,
) -> Spool:
    """The spool in a state folder. Events: spool_salvaged after damage, gap after a boot that did not end in order.

    A salvaged report keeps the key that it had, so that one which the monitor has already is not counted twice; new
    reports get the new spool's epoch.

    Raises:
        BadInput: another process holds it, or a later version made it.
        NotWritable: the folder is read-only or the disk full.
    """
    path = folder / NAME
    try:
        spool = Spool(path, cap_bytes=cap_bytes, wall=wall)
    except Damaged as damage:
        aside = _move_aside(path, wall())
        found = _read_what_is_left(aside)
        spool = Spool(path, cap_bytes=cap_bytes, wall=wall)
        for one in found:
            spool.restore(*one)
        event(
            "spool_salvaged", f"{len(found)} reports were read; the old spool is kept as {aside.name}: {damage}"[:300]
        )
    if spool.crashed:
        event("gap", f"boot {spool.boot - 1} ended without closing its interval")
    return spool


def _move_aside(path: Path, wall_s: float) -> Path:
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(wall_s))
    taken = [path.with_name(f"spool.corrupt-{stamp}{'' if not k else f'-{k}'}.db") for k in range(1000)]
    aside = next(name for name in taken if not name.exists())
    try:
        for suffix in _SUFFIXES:
            part = path.with_name(path.name + suffix)
            if part.exists():
                part.rename(aside.with_name(aside.name + suffix))
    except OSError as error:
        raise NotWritable(f"{path}: is corrupt and cannot be moved aside: {(error.strerror or '').lower()}") from error
    return aside


def _read_what_is_left(aside: Path) -> list[Salvaged]:
    """Whole reports of the damaged file, read from a copy, from both ends as far as each goes; none without room for
    the copy."""
    found: dict[tuple[int, int], Salvaged] = {}
    try:
        with tempfile.TemporaryDirectory(dir=aside.parent, ignore_cleanup_errors=True) as folder:
            copy = Path(folder) / "copy.db"
            for suffix in _SUFFIXES[:2]:
                part = aside.with_name(aside.name + suffix)
                if part.exists():
                    shutil.copyfile(part, copy.with_name(copy.name + suffix))
            for order in ("ASC", "DESC"):
                _collect(copy, order, found)
    except OSError:  # the disk is full or failing; the file stays aside for a person to read
        return []
    return sorted(found.values())


def _collect(copy: Path, order: str, found: dict[tuple[int, int], Salvaged]) -> None:
    database = sqlite3.connect(copy)
    try:
        for payload in database.execute(f"SELECT payload FROM report ORDER BY id {order}"):
            try:
                report = read_report(payload[0])
            except (BadInput, TypeError):  # this row was hit
                continue
            found[report.epoch, report.sequence] = Salvaged(report.epoch, report.sequence, payload[0])
    except sqlite3.DatabaseError:  # this is where the damage begins
        return
    finally:
        database.close()
