"""Programs that are started, killed and started again: the broker, the monitor, agents."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Literal, NamedTuple

from device_agent.contract.errors import NotFound, Unreachable

HOST = "127.0.0.1"
START_S = 15.0
End = Literal["killed", "stopped", "died"]


class Run(NamedTuple):
    """One life of a program, from before its start until after its end, on the monotonic clock in ns."""

    number: int
    start_ns: int
    end_ns: int
    how: End


class Program:
    """A command that can be started again. `command(number)` is that of run `number`, from 0; what it writes is
    appended to `log`, its stdout goes to `out(number)` where that is given."""

    def __init__(
        self,
        command: Callable[[int], list[str]],
        log: Path,
        *,
        out: Callable[[int], Path] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._command, self._log, self._out = command, log, out
        self._environment = {**os.environ, **(environment or {})}
        self.runs: list[Run] = []
        self.process: subprocess.Popen[bytes] | None = None
        self._start_ns = 0

    def start(self) -> None:
        """Begin the next run."""
        number = len(self.runs)
        with self._log.open("ab") as log:
            out: IO[bytes] = self._out(number).open("ab") if self._out else log
            self._start_ns = time.monotonic_ns()
            self.process = subprocess.Popen(
                self._command(number),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                env=self._environment,
                start_new_session=True,  # Ctrl-C is for whoever started it, which ends it in order
            )
            out.close()

    @property
    def running(self) -> bool:
        """Is there a process that has not ended?"""
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """SIGKILL, as a power cut would."""
        self._end(signal.SIGKILL, "killed", 10)

    def stop(self, timeout_s: float = 20.0) -> None:
        """SIGTERM, and wait; a program that does not end in time is killed, and counts as killed."""
        self._end(signal.SIGTERM, "stopped", timeout_s)

    def note_death(self) -> bool:
        """Has it ended by itself? Then that run is over."""
        if self.process is None or self.process.poll() is None:
            return False
        self._close("died")
        return True

    def _end(self, number: signal.Signals, how: End, timeout_s: float) -> None:
        if self.process is None:
            return
        if self.process.poll() is not None:
            how = "died"
        with suppress(ProcessLookupError):
            self.process.send_signal(number)
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            how = "killed"
            self.process.kill()
            self.process.wait()
        self._close(how)

    def _close(self, how: End) -> None:
        self.runs.append(Run(len(self.runs), self._start_ns, time.monotonic_ns(), how))
        self.process = None


class Broker(Program):
    """A Mosquitto of one's own on a port of this machine, without persistence."""

    def __init__(self, program: str, folder: Path) -> None:
        self.port = free_port()
        config = folder / "mosquitto.conf"
        user = "user root\n" if os.geteuid() == 0 else ""
        config.write_text(
            f"listener {self.port} {HOST}\nallow_anonymous true\npersistence false\nset_tcp_nodelay true\n"
            f"max_queued_messages 10000\n{user}"
        )
        super().__init__(lambda _: [program, "-c", str(config)], folder / "broker.log")

    def await_listening(self) -> None:
        """Return when it takes connections.

        Raises:
            Unreachable: it does not within 15 s.
        """
        end = time.monotonic() + START_S
        while time.monotonic() < end and self.running:
            with socket.socket() as probe:
                probe.settimeout(1)
                if probe.connect_ex((HOST, self.port)) == 0:
                    return
            time.sleep(0.02)
        raise Unreachable(f"the broker of the rehearsal does not listen, see {self._log}")


def find_broker(program: str) -> str:
    """Path of the broker's program.

    Raises:
        NotFound: it is not installed.
    """
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise NotFound(f"broker program {program!r} is not here; install mosquitto, or name one: --broker-program PATH")
    return found


def free_port() -> int:
    """A TCP port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def python(module: str, *arguments: str) -> list[str]:
    """The command that runs a module of this installation."""
    return [sys.executable, "-m", module, *arguments]
