"""Child programs of the demo: started with a log file each, ended together whatever happens."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from device_agent.contract.errors import LinesideError, NotFound


class Program:
    """One running child in a process group of its own, its output in a log file."""

    def __init__(self, name: str, command: list[str], log: Path) -> None:
        self.name, self.log = name, log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )

    def check(self) -> None:
        """Nothing while it runs.

        Raises:
            LinesideError: it has ended; the sentence holds its last line.
        """
        code = self._process.poll()
        if code is not None:
            lines = self.log.read_text(errors="replace").strip().splitlines() or ["no output"]
            raise LinesideError(f"{self.name} ended with exit code {code}: {lines[-1]} (log: {self.log})")

    def stop(self, timeout_s: float = 8.0) -> None:
        """End it: a polite signal first, then kill what is left of its group."""
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout_s)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


class Programs:
    """All children of one demo; leaving the `with` block ends them, the last started first."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: list[Program] = []

    def __enter__(self) -> Programs:
        return self

    def __exit__(self, *_: object) -> None:
        for program in self._running:
            with contextlib.suppress(ProcessLookupError):
                program._process.terminate()
        while self._running:
            self._running.pop().stop()

    def start(self, name: str, command: list[str]) -> Program:
        """Start a child; its output goes to `<logs>/<name>.log`."""
        program = Program(name, command, self._logs / f"{name}.log")
        self._running.append(program)
        return program

    def check(self) -> None:
        """Raise if any child has ended."""
        for program in self._running:
            program.check()


@contextlib.contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Turns SIGTERM into KeyboardInterrupt for the block, so that children are ended then too."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def script(name: str) -> str:
    """Path of a console script of this installation.

    Raises:
        NotFound: it is not installed beside this Python.
    """
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if not found:
        raise NotFound(f"{name} is not installed beside {sys.executable}: pip install 'lineside[all]'")
    return found


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    """Does somebody accept TCP connections on 127.0.0.1:port?"""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until(ready: Callable[[], bool], programs: Programs, *, what: str, timeout_s: float) -> None:
    """Return when `ready()` is true, checked ten times a second.

    Raises:
        LinesideError: it took longer than `timeout_s`, or a child ended meanwhile.
    """
    give_up = time.monotonic() + timeout_s
    while not ready():
        programs.check()
        if time.monotonic() > give_up:
            raise LinesideError(f"demo: {what} did not happen within {timeout_s:g} s")
        time.sleep(0.1)
