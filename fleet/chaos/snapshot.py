"""What a device has committed to its spool, read from the file that a killed or stopped agent leaves behind."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

SPOOL = "spool.db"


class Snapshot(NamedTuple):
    """`committed`: how many reports epoch `epoch` has been given so far; `waiting`: keys (epoch, sequence) of the
    reports that are not acknowledged."""

    epoch: int
    committed: int
    waiting: frozenset[tuple[int, int]]


def read_snapshot(state: Path) -> Snapshot | None:
    """The spool in a state folder that no agent uses, read from a copy; None if there is none that can be read."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            for name in (SPOOL, f"{SPOOL}-wal"):
                if (state / name).exists():
                    shutil.copyfile(state / name, Path(folder) / name)
            if not (Path(folder) / SPOOL).exists():
                return None
            with closing(sqlite3.connect(Path(folder) / SPOOL)) as database:
                meta = dict(database.execute("SELECT name, value FROM meta"))
                waiting = database.execute("SELECT epoch, sequence FROM report").fetchall()
        except (sqlite3.DatabaseError, OSError):
            return None
    return Snapshot(meta["epoch"], meta["next"] - 1, frozenset(waiting)) if "next" in meta else None
