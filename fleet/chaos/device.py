"""One device under rehearsal: its agent, and everything that is known of it without asking the monitor."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from fleet.chaos.bundle import SIDE
from fleet.chaos.programs import Program, python
from fleet.chaos.snapshot import SPOOL, Snapshot, read_snapshot

_CAMERA = b"device_agent.frames.child"


class Pace(NamedTuple):
    """How fast a rehearsal goes: seconds a report, frames per second, seconds of keep-alive."""

    interval_s: float
    fps: float
    keepalive_s: int = 6


class Damage(NamedTuple):
    """When a spool was corrupted, on the monotonic clock, and the keys of the reports that waited in it."""

    at_ns: int
    waiting: frozenset[tuple[int, int]]


class Device:
    """An agent in a folder of its own, with `broker` as `host:port`; `prefix` goes before its command. Frames and
    answers of each run are written down beside the state, where no fault reaches."""

    def __init__(
        self, name: str, folder: Path, bundle: Path, broker: str, pace: Pace, prefix: tuple[str, ...] = ()
    ) -> None:
        self.name, self.folder, self.state, self.broker = name, folder, folder / "state", broker
        self._bundle, self._pace, self._prefix = bundle, pace, prefix
        self.state.mkdir(parents=True, exist_ok=True)
        self._offset = folder / "clock-offset"
        self.program = Program(
            self._command,
            folder / "agent.log",
            out=self.answers,
            environment={"LINESIDE_CLOCK_OFFSET": str(self._offset)},
        )
        self.snapshots: dict[int, Snapshot] = {}
        self.damages: list[Damage] = []
        self._stopped: list[int] = []

    def frames(self, number: int) -> Path:
        """Where the source of a run accounts for its frames."""
        return self.folder / f"frames-{number}"

    def answers(self, number: int) -> Path:
        """Where the verdicts of a run are."""
        return self.folder / f"answers-{number}"

    def _command(self, number: int) -> list[str]:
        seed = int.from_bytes(self.name.encode(), "big") % 1000 + number
        source = f"synthetic:size={SIDE},seed={seed},fps={self._pace.fps:g},ledger={self.frames(number)}"
        return [
            *self._prefix,
            *python("device_agent", "run", "--bundle", str(self._bundle), "--device", self.name),
            *("--state", str(self.state), "--source", source, "--verdicts", "-"),
            *(
                "--interval",
                f"{self._pace.interval_s:g}",
                "--broker",
                f"mqtt://{self.broker}?keepalive={self._pace.keepalive_s}",
            ),
        ]

    def start(self) -> None:
        """Begin a run."""
        self.program.start()

    def kill(self) -> None:
        """SIGKILL, and a look at what it had committed."""
        self.program.kill()
        self._look()

    def stop(self) -> None:
        """SIGTERM, and a look at what it had committed."""
        self.program.stop()
        self._look()

    def note_death(self) -> bool:
        """Has the agent ended by itself?"""
        if not self.program.note_death():
            return False
        self._look()
        return True

    @property
    def damaged(self) -> set[tuple[int, int]]:
        """Keys of reports that a damage may have taken."""
        return {key for damage in self.damages for key in damage.waiting}

    def say_cause(self, cause: str) -> None:
        """Leave word for the next run of why this one ended, as the supervisor of a service does."""
        with suppress(OSError):
            (self.state / "last-end").write_text(f"{cause} killed 9\n")

    def _look(self) -> None:
        self.wake_camera(kill=True)
        found = read_snapshot(self.state)
        if found is not None:
            self.snapshots[len(self.program.runs) - 1] = found

    def set_clock(self, offset_s: float) -> None:
        """Set the device's wall clock wrong by so many seconds."""
        replacement = self._offset.with_suffix(".new")
        replacement.write_text(f"{offset_s:g}")
        replacement.replace(self._offset)

    def cameras(self) -> list[int]:
        """Process ids of its capture processes."""
        if not self.program.running or self.program.process is None:
            return []
        children = Path(f"/proc/{self.program.process.pid}/task").glob("*/children")
        found: list[int] = []
        with suppress(OSError):
            found = [int(pid) for file in children for pid in file.read_text().split()]
        return [pid for pid in found if _is_camera(pid)]

    def stop_camera(self) -> list[int]:
        """SIGSTOP to the capture process, as a driver that hangs; the processes that were stopped."""
        stopped = self.cameras()
        for pid in stopped:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        self._stopped += stopped
        return stopped

    def wake_camera(self, *, kill: bool = False) -> None:
        """Let stopped capture processes go on; or end them, as the supervisor of a service does with what is left."""
        for pid in self._stopped:
            with suppress(ProcessLookupError):
                if _is_camera(pid):
                    os.kill(pid, signal.SIGKILL if kill else signal.SIGCONT)
        self._stopped.clear()

    def corrupt_spool(self, at: float, size: int, *, truncate: bool, log: bool = False) -> str:
        """Damage the spool of an agent that does not run: `size` bytes from share `at` on are flipped, or all after it
        cut off, in the database or in its write-ahead log. What was done, for the log of actions."""
        path = self.state / (f"{SPOOL}-wal" if log else SPOOL)
        before = read_snapshot(self.state)
        if before is None or not path.exists():
            return f"there is no {path.name}"
        self.damages.append(Damage(time.monotonic_ns(), before.waiting))
        content = bytearray(path.read_bytes())
        start = int(at * len(content))
        if truncate:
            path.write_bytes(content[:start])
            return f"{path.name} is cut at {start} of {len(content)} bytes, {len(before.waiting)} reports waiting"
        for index in range(start, min(start + size, len(content))):
            content[index] ^= 0xFF
        path.write_bytes(content)
        return (
            f"{size} bytes of {path.name} flipped at {start} of {len(content)}, {len(before.waiting)} reports waiting"
        )


def _is_camera(pid: int) -> bool:
    try:
        return _CAMERA in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
