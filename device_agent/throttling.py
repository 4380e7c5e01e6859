"""Is this board slowed down now? Read from sysfs; only a Raspberry Pi that is silent there is asked by a program."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

_FIRMWARE = "sys/devices/platform/soc/soc:firmware/get_throttled"
_COOLING = re.compile(r"(thermal-)?(cpufreq|devfreq)|.*throttle-alert")
_PROGRAM_S = 0.2
_NOW = 0xF  # under-voltage, capped frequency, throttled, soft temperature limit


class Throttling:
    """Heat, under-voltage and over-current of one board; `root` is where sys and dev are, `program` is vcgencmd.

    Linux lowers a clock against heat by a cooling device (on Jetson also *-throttle-alert). The driver rpi_volt tells
    of under-voltage, soctherm-oc of over-current on Jetson. A Raspberry Pi's firmware knows it all: by a file, else by
    vcgencmd, which may take 0.2 s and is not asked again once it failed.
    """

    def __init__(self, root: Path = Path("/"), program: str | None = None) -> None:
        self._root = root
        self._program = program if program is not None else shutil.which("vcgencmd") or ""
        self._over_current = self._count_over_current()

    def now(self) -> bool | None:
        """Slowed down now, or since the last call by over-current; None if the board cannot tell."""
        found = [*self._cooling(), *self._under_voltage(), *self._more_over_current()]
        firmware = self._firmware()
        found += [] if firmware is None else [firmware]
        return any(found) if found else None

    def _text(self, path: Path) -> str:
        try:
            return path.read_text().strip()
        except (OSError, UnicodeDecodeError):
            return ""

    def _cooling(self) -> Iterable[bool]:
        for device in (self._root / "sys/class/thermal").glob("cooling_device*"):
            state = self._text(device / "cur_state")
            if state.isdecimal() and _COOLING.match(self._text(device / "type")):
                yield int(state) > 0

    def _under_voltage(self) -> Iterable[bool]:
        for chip in (self._root / "sys/class/hwmon").glob("hwmon*"):
            alarm = self._text(chip / "in0_lcrit_alarm")
            if alarm in ("0", "1") and self._text(chip / "name") == "rpi_volt":
                yield alarm == "1"

    def _count_over_current(self) -> int | None:
        counters = (self._root / "sys/class/hwmon").glob("hwmon*/oc[0-9]_event_cnt")
        counts = [int(text) for counter in counters if (text := self._text(counter)).isdecimal()]
        return sum(counts) if counts else None

    def _more_over_current(self) -> Iterable[bool]:
        before, self._over_current = self._over_current, self._count_over_current()
        if self._over_current is not None:
            yield self._over_current > (before or 0)

    def _firmware(self) -> bool | None:
        text = self._text(self._root / _FIRMWARE)
        if not text and self._program and (self._root / "dev/vcio").exists():
            text = self._ask()
        try:
            return bool(int(text, 16) & _NOW)
        except ValueError:
            return None

    def _ask(self) -> str:
        """What vcgencmd says, such as 0x50005; after a failure the board is not asked again."""
        try:
            done = subprocess.run(
                [self._program, "get_throttled"], stdin=subprocess.DEVNULL, capture_output=True, timeout=_PROGRAM_S
            )
        except (OSError, subprocess.TimeoutExpired):
            self._program = ""
            return ""
        found = re.fullmatch(rb"throttled=(0x[0-9a-fA-F]{1,8})\s*", done.stdout)
        if found is None:
            self._program = ""
        return found[1].decode() if found else ""
