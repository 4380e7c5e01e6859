"""Sealed samples on disk, one file each: capped, with a time to live, whole or not there."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from device_agent.contract.errors import NotWritable
from device_agent.contract.files import sweep, write_whole
from device_agent.contract.reading import read_plain
from device_agent.samples.ages import SET_MS, age_ms
from device_agent.samples.seal import MOST_BYTES, SUFFIX, file_name

MOST_FILES = 10_000
SPARE_BYTES = 32 << 20
_NAME = re.compile(rf"([0-9a-f]{{64}})\{SUFFIX}")


class Clocks(NamedTuple):
    """Nanoseconds on the monotonic clock, milliseconds since 1970 on the wall."""

    monotonic_ns: Callable[[], int]
    wall_ms: Callable[[], int]


class Caps(NamedTuple):
    """What the folder may hold, for how long, and what it leaves free on the disk for the reports."""

    most_bytes: int
    live_ns: int
    most_files: int = MOST_FILES
    spare_bytes: int = SPARE_BYTES


class _Kept(NamedTuple):
    since_ns: int
    size: int


class Store:
    """The folder of one agent. Every method may be called from any thread; none raises for a disk that fails.

    When it is full the oldest go. `event` hears once of each change: no room, a disk that cannot be written, samples
    that went because of their age.
    """

    def __init__(self, folder: Path, caps: Caps, clocks: Clocks, event: Callable[[str, str], None]) -> None:
        self._folder, self._caps, self._clocks, self._event = folder, caps, clocks, event
        self._lock = threading.Lock()
        self._kept: dict[str, _Kept] = {}
        self._bytes = self._lost = self._pushed = 0
        self._full = False
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            sweep(folder)
            self._find()
        except OSError as error:
            self._lose(f"{folder}: {(error.strerror or str(error)).lower()}", lost=0)
        self.expire()

    def _find(self) -> None:
        """What an earlier run left, oldest first. The age of a file whose time cannot be true begins now."""
        now_ns, now_ms = self._clocks.monotonic_ns(), self._clocks.wall_ms()
        found = []
        for entry in os.scandir(self._folder):
            if not (name := _NAME.fullmatch(entry.name)) or not entry.is_file(follow_symlinks=False):
                continue
            stat = entry.stat(follow_symlinks=False)
            age = age_ms(stat.st_mtime_ns // 1_000_000, now_ms)
            if age is None and now_ms >= SET_MS:
                os.utime(entry.path, ns=(now_ms * 1_000_000,) * 2)
            found.append((now_ns - (age or 0) * 1_000_000, name[1], stat.st_size))
        for since_ns, sha256, size in sorted(found):
            self._kept[sha256] = _Kept(since_ns, size)
            self._bytes += size

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, sealed: bytes) -> bool:
        """Keep a sample of at most 8 MiB; whether it is kept."""
        name = file_name(sealed)
        with self._lock:
            if len(sealed) > min(MOST_BYTES, self._caps.most_bytes):
                self._lose(f"a sample has {len(sealed)} bytes, more than may be kept")
                return False
            self._make_room(len(sealed))
            try:
                if shutil.disk_usage(self._folder).free < self._caps.spare_bytes + len(sealed):
                    raise NotWritable(f"{self._folder}: under {self._caps.spare_bytes >> 20} MiB are free on its disk")
                write_whole(self._path(name), sealed)
            except OSError as error:
                self._lose(str(error) if isinstance(error, NotWritable) else (error.strerror or str(error)).lower())
                return False
            self._kept[name] = _Kept(self._clocks.monotonic_ns(), len(sealed))
            self._bytes += len(sealed)
            if self._lost:
                self._event("samples_writable", f"samples are kept again; {self._lost} were lost")
                self._lost = 0
            return True

    def _lose(self, why: str, *, lost: int = 1) -> None:
        """Only the first of a row is an event; how many followed is said when it ends."""
        if not self._lost:
            self._event("samples_unwritable", f"{why}; no sample is kept until that ends")
        self._lost += max(lost, 1)

    def _make_room(self, size: int) -> None:
        before = self._pushed
        while self._kept and (len(self._kept) >= self._caps.most_files or self._bytes + size > self._caps.most_bytes):
            self._drop(next(iter(self._kept)))
            self._pushed += 1
        if self._pushed > before and not self._full:
            self._full = True
            self._event("samples_full", f"{len(self._kept)} samples fill their room; the oldest go, unsent")

    def expire(self) -> None:
        """Remove what is over its time to live; to be called hourly, it also says how many went for want of room."""
        with self._lock:
            now_ns = self._clocks.monotonic_ns()
            old = [name for name, kept in self._kept.items() if now_ns - kept.since_ns >= self._caps.live_ns]
            for name in old:
                self._drop(name)
            if old:
                self._event("samples_expired", f"{len(old)} samples were over their time to live, unsent")
            if self._pushed:
                self._event("samples_full", f"{self._pushed} samples went, unsent, to make room")
            self._full, self._pushed = self._pushed > 0, 0

    def names(self) -> list[str]:
        """Names of all samples, oldest first."""
        with self._lock:
            return list(self._kept)

    def read(self, name: str) -> bytes | None:
        """The file of a sample, None if it is gone; one that is damaged is removed, with an event."""
        try:
            sealed = read_plain(self._path(name), MOST_BYTES)
        except FileNotFoundError:
            self.remove(name)
            return None
        except OSError:
            sealed = b""
        if hashlib.sha256(sealed).hexdigest() == name:
            return sealed
        self._event("samples_damaged", f"{name[:12]} is not what was written; it was removed")
        self.remove(name)
        return None

    def remove(self, name: str) -> None:
        """Forget a sample."""
        with self._lock:
            self._drop(name)

    def _drop(self, name: str) -> None:
        if kept := self._kept.pop(name, None):
            self._bytes -= kept.size
        try:
            self._path(name).unlink(missing_ok=True)
        except OSError:  # a read-only disk; the next start finds it again
            return

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}{SUFFIX}"
