"""The agent's side of the capture process: frames out, and a child that is killed and started again when it hangs."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress

from device_agent.contract.errors import BadInput, LinesideError
from device_agent.contract.manifest import InputSpec
from device_agent.frames import Address, Frame, SourceEnded
from device_agent.frames.child import ENDED, FATAL, FRAME, LOST, STARTED, Order, write_order
from device_agent.frames.mailbox import Mailbox

START_S, OPEN_S, SILENT_S = 30.0, 5.0, 3.5
"""How long a child may take to start, a source to give its first frame, and then to give another: one that hangs has
been replaced within 5 s, its retry and the start of the next child included."""
BACK_OFF_S = (0.25, 30.0)
_CHILD = [sys.executable, "-c", "from device_agent.frames.child import main; main()"]
_QUIET = {"OPENCV_LOG_LEVEL": "SILENT", "OPENCV_FFMPEG_LOGLEVEL": "-8", "PYTHONSAFEPATH": "1"}


class _Child:
    """One run of the capture process, with its pipes and its mailbox."""

    def __init__(self, source: Address, spec: InputSpec, first_stamp: int) -> None:
        with ExitStack() as opened:
            self._open(source, spec, first_stamp, opened)
            opened.pop_all()  # nothing failed: it is all closed by `kill`

    def _open(self, source: Address, spec: InputSpec, first_stamp: int, opened: ExitStack) -> None:
        self.mailbox = Mailbox(spec)
        opened.callback(self.mailbox.close)
        asks, self._asks = _pipe(opened)
        self.tells, tells = _pipe(opened)
        shared = (self.mailbox.descriptor, asks, tells)
        order = Order(
            source=source, spec=spec, first_stamp=first_stamp, mailbox=shared[0], asks=shared[1], tells=shared[2]
        )
        self.process = subprocess.Popen(
            _CHILD,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=shared,
            start_new_session=True,  # Ctrl-C is for the agent, which ends the child itself
            env={**_QUIET, **os.environ},
        )
        os.close(asks)
        os.close(tells)
        self._rest = ""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError), self.process.stdin as stdin:  # not as an argument, which any user can read
            stdin.write(write_order(order))

    def ask(self) -> None:
        """Tell the child that the reader wants one more frame."""
        try:
            os.write(self._asks, b"1")
        except BrokenPipeError:  # it has ended; its last words are still to be read
            return

    def lines(self, timeout_s: float) -> list[str] | None:
        """What the child said within the time; None when it has ended and everything is said."""
        if not select.select([self.tells], [], [], max(timeout_s, 0))[0]:
            return []
        heard = os.read(self.tells, 1 << 16)
        *whole, self._rest = (self._rest + heard.decode(errors="replace")).split("\n")
        return whole if heard else None

    def kill(self) -> int:
        """End the child at once; its exit code."""
        self.process.kill()
        code = self.process.wait()
        os.close(self._asks)
        os.close(self.tells)
        self.mailbox.close()
        return code


class Capture:
    """Frames of a source, fitted to `spec`, from a process that can be killed.

    A source that is silent for 3.5 s, or 5 s until its first frame, is killed; one that was lost is opened again after
    0.25 s, 0.5 s, 1 s ... 30 s.
    `event(kind, text)` hears of camera_lost and camera_found, once for each outage.
    """

    def __init__(
        self,
        source: Address,
        spec: InputSpec,
        *,
        event: Callable[[str, str], None],
        clock: Callable[[], int] = time.monotonic_ns,
        silent_s: float = SILENT_S,
        open_s: float = OPEN_S,
    ) -> None:
        self._source, self.spec, self._event, self._clock = source, spec, event, clock
        silent_s = float(source.options.get("silent_s", silent_s))
        self._silent_s, self._open_s = max(silent_s, 3 / source_fps(source)), max(open_s, 3 / source_fps(source))
        self._next_stamp, self._failures, self._lost = 0, 0, False
        self._ended = False
        self._start()

    def _start(self) -> None:
        self._child: _Child | None = None
        self._asked = False
        try:
            self._child = _Child(self._source, self.spec, self._next_stamp)
        except OSError as error:  # too many files, no memory: it passes, and the others go on
            self._lose(f"the capture process cannot be started: {(error.strerror or str(error)).lower()}")
        self._patience_ns = int(START_S * 1e9)
        self._heard_ns = self._clock()

    def next(self, timeout_s: float) -> Frame | None:
        """The latest frame that was not taken yet, None when none came within the time.

        Raises:
            SourceEnded: there will be no more.
            LinesideError: the source cannot be opened, and another attempt would not help.
        """
        if self._ended:
            raise SourceEnded
        if self._child is None:
            self._await_retry(timeout_s)
            return None
        self._ask()
        lines = self._child.lines(timeout_s)
        if lines is None:
            self._lose(f"the capture process ended with code {self._child.process.wait()}")
        elif lines:
            return self._follow(lines)
        elif self._clock() - self._heard_ns > self._patience_ns:
            self._lose(f"silent for {self._patience_ns / 1e9:g} s")
        return None

    def _ask(self) -> None:
        """Want the next frame, unless it was asked for already."""
        if self._child is not None and not self._asked:
            self._child.ask()
            self._asked, self._heard_ns = True, self._clock()

    def _await_retry(self, timeout_s: float) -> None:
        wait_s = (self._retry_ns - self._clock()) / 1e9
        if wait_s > 0:
            select.select([], [], [], min(wait_s, timeout_s))
        if self._clock() >= self._retry_ns:
            self._start()

    def _follow(self, lines: list[str]) -> Frame | None:
        self._heard_ns = self._clock()
        frame = self._take() if FRAME in lines and self._child else None
        for line in lines:
            word, _, text = line.partition(" ")
            if word == STARTED:
                self._patience_ns = int(self._open_s * 1e9)
            elif word == ENDED:
                self._ended = True
            elif word == LOST:
                self._lose(text)
            elif word == FATAL:
                raise LinesideError(text)
        return frame

    def _take(self) -> Frame | None:
        frame = self._child.mailbox.take() if self._child else None
        if frame is not None:
            self._asked, self._failures = False, 0
            self._patience_ns = int(self._silent_s * 1e9)
            self._next_stamp = frame.stamp + 1
            if self._lost:
                self._lost = False
                self._event("camera_found", f"{self._source.kind} delivers frames again")
            self._ask()  # a source that waits for its reader makes the next one meanwhile
        return frame

    def _lose(self, reason: str) -> None:
        self._end_child()
        low_s, high_s = BACK_OFF_S
        self._retry_ns = self._clock() + int(min(high_s, low_s * 2**self._failures) * 1e9)
        self._failures = min(self._failures + 1, 16)
        if not self._lost:
            self._lost = True
            self._event("camera_lost", f"{self._source.kind}: {reason}")

    def refit(self, spec: InputSpec) -> None:
        """Deliver frames for another input from now on."""
        if spec != self.spec and not self._ended:
            self.spec = spec
            self._end_child()
            self._start()

    def _end_child(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child = None

    def close(self) -> None:
        """End the capture process."""
        self._end_child()


def _pipe(opened: ExitStack) -> tuple[int, int]:
    """Both ends of a pipe, closed with the stack."""
    ends = os.pipe()
    for end in ends:
        opened.callback(_close, end)
    return ends


def _close(descriptor: int) -> None:
    with suppress(OSError):  # closed already
        os.close(descriptor)


def source_fps(source: Address) -> float:
    """Frames per second that its options ask for, 30 where they do not.

    Raises:
        BadInput: no such number.
    """
    text = source.options.get("fps", "30")
    try:
        fps = float(text)
    except ValueError:
        fps = 0.0
    if not 0.01 <= fps <= 1000:
        raise BadInput(f"source {source.kind}: fps must be 0.01 to 1000, got {text!r}")
    return fps
