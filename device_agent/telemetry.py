"""The board's own figures, read from /proc and /sys; what is not there is None."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from device_agent.contract.report import System
from device_agent.throttling import Throttling

_SENSORS = {"sys/class/thermal": "thermal_zone*/temp", "sys/class/apex": "apex_*/temp"}
_TIME_ERROR = 5


class Telemetry:
    """Figures of the board since they were last read. `root` is where proc and sys are, `state` is on the disk whose
    free space counts."""

    def __init__(self, state: Path, root: Path = Path("/")) -> None:
        self._state, self._root = state, root
        self._ticks = self._cpu_ticks()
        self._throttling = Throttling(root)

    def read(self) -> System:
        """Figures now; CPU since the last call."""
        return System(
            cpu_percent=self._cpu_percent(),
            temperature_c=self._temperature_c(),
            throttled=self._throttling.now(),
            rss_mib=self._rss_mib(),
            disk_free_mib=self._disk_free_mib(),
        )

    def _text(self, path: str) -> str | None:
        try:
            return (self._root / path).read_text()
        except (OSError, UnicodeDecodeError):
            return None

    def _cpu_ticks(self) -> tuple[int, int] | None:
        """Busy and all ticks of all cores since the start."""
        first = (self._text("proc/stat") or "").partition("\n")[0].split()
        if len(first) < 6 or first[0] != "cpu" or not all(word.isdecimal() for word in first[1:]):
            return None
        ticks = [int(word) for word in first[1:9]]
        return sum(ticks) - ticks[3] - ticks[4], sum(ticks)

    def _cpu_percent(self) -> int | None:
        before, self._ticks = self._ticks, self._cpu_ticks()
        if before is None or self._ticks is None or self._ticks[1] <= before[1]:
            return None
        return min(100, max(0, round(100 * (self._ticks[0] - before[0]) / (self._ticks[1] - before[1]))))

    def _temperature_c(self) -> int | None:
        """The hottest zone, or the Coral accelerator if that is hotter."""
        files = [file for folder, names in _SENSORS.items() for file in (self._root / folder).glob(names)]
        found = [self._text(str(file.relative_to(self._root))) for file in files]
        millis = [int(text) for text in found if text and text.strip().lstrip("-").isdecimal()]
        return round(max(millis) / 1000) if millis else None

    def _rss_mib(self) -> int | None:
        fields = (self._text("proc/self/statm") or "").split()
        return round(int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20) if len(fields) > 1 else None

    def _disk_free_mib(self) -> int | None:
        try:
            disk = os.statvfs(self._state)
        except OSError:
            return None
        return disk.f_bavail * disk.f_frsize >> 20


def clock_synced() -> bool | None:
    """Does the kernel hold the wall clock for synchronized, by whatever program? None where it cannot be asked."""
    try:
        adjtimex = ctypes.CDLL(None, use_errno=True).adjtimex
    except (OSError, AttributeError):
        return None
    state = int(adjtimex(ctypes.create_string_buffer(512)))  # a struct timex of zeros asks and sets nothing
    return None if state < 0 else state != _TIME_ERROR
