"""The capture process: owns the camera, decodes and fits frames, and puts them into the mailbox.

It is started by `capture` and ends with its parent: a thread waits for the end of the pipe that the parent holds open.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import msgspec

from device_agent import preprocess
from device_agent.contract.errors import LinesideError, Unreachable
from device_agent.contract.manifest import InputSpec
from device_agent.frames import Address, Frame, FrameSource, SourceEnded, open_source
from device_agent.frames.mailbox import Mailbox
from device_agent.frames.region import Region
from device_agent.frames.tally import Tally

STARTED, FRAME, ENDED, LOST, FATAL = "started", "frame", "ended", "lost", "fatal"
"""First words of the lines that the child writes to its parent."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What the child is started with; the three numbers are file descriptors."""

    source: Address
    spec: InputSpec
    first_stamp: int
    mailbox: int
    asks: int
    tells: int


def write_order(order: Order) -> bytes:
    """The order as the child reads it; a path may hold bytes that are no UTF-8."""
    return json.dumps(msgspec.to_builtins(order)).encode()


def line_of(word: str, text: str = "") -> bytes:
    """One line for the parent, of at most 4 KiB, so that the pipe takes it whole.

    >>> line_of(LOST, "a\\nb")
    b'lost a b\\n'
    """
    return " ".join([word, *text.split()]).encode(errors="backslashreplace")[:4095] + b"\n"


class Tempo:
    """When the next frame is due. Without `fps`, whenever the reader has asked for it."""

    def __init__(self, fps: float | None, clock: Callable[[], int], wait: Callable[[float], None]) -> None:
        self._step_ns = int(1e9 / fps) if fps else 0
        self._due_ns, self._clock, self._wait = clock(), clock, wait

    def keep(self) -> None:
        """Return when the next frame is due; a source that fell behind does not catch up in a burst."""
        now_ns = self._clock()
        if now_ns < self._due_ns:
            self._wait((self._due_ns - now_ns) / 1e9)
        self._due_ns = max(self._due_ns + self._step_ns, now_ns - self._step_ns)

    def skips(self) -> bool:
        """Is a frame that a live camera has just delivered too early to be kept?"""
        now_ns = self._clock()
        if now_ns < self._due_ns - self._step_ns // 10:
            return True
        self._due_ns = max(self._due_ns + self._step_ns, now_ns)
        return False


def is_lossless(source: FrameSource) -> bool:
    """Does the source wait for its reader, so that no frame is dropped?"""
    return not source.live and source.fps is None


def deliver(
    source: FrameSource,
    spec: InputSpec,
    put: Callable[[Frame], None],
    *,
    asked: Callable[[], None],
    region: Region | None = None,
    first_stamp: int = 0,
    clock: Callable[[], int] = time.monotonic_ns,
    wait: Callable[[float], None] = time.sleep,
) -> None:
    """Read, fit and `put` frames until the source raises. `asked` returns when the reader wants the next one; it is
    called for sources that wait for their reader only, and one frame is made ahead of it. `region` is what is fitted.
    """
    lossless = is_lossless(source)
    tempo = Tempo(source.fps, clock, wait)
    while True:
        if source.fps and not source.live:
            tempo.keep()
        started_ns = clock()
        frame = source.read()
        captured_ns = clock()
        if source.live and source.fps and tempo.skips():
            continue
        image = preprocess.fit(frame.image if region is None else region.cut(frame.image), spec)
        spent = (captured_ns - started_ns) / 1e3, (clock() - captured_ns) / 1e3
        if lossless:
            asked()
        put(Frame(image, first_stamp + frame.stamp, captured_ns, frame.part, *spent))


def main() -> NoReturn:
    """Run the order on stdin to its end."""
    text = sys.stdin.read()
    if not text:  # whoever was about to give it has been killed
        os._exit(0)
    order = msgspec.convert(json.loads(text), Order)
    asks = threading.Semaphore(0)
    threading.Thread(target=_follow, args=(order.asks, asks), daemon=True).start()
    os.set_blocking(order.tells, False)

    def tell(word: str, text: str = "") -> None:
        try:
            os.write(order.tells, line_of(word, text))
        except BlockingIOError:  # thousands of frames wait already: the reader will look
            return
        except BrokenPipeError:  # the reader has been killed
            os._exit(0)

    def put(frame: Frame) -> None:
        if tally is not None:
            tally.add(frame)
        mailbox.put(frame)
        tell(FRAME)

    mailbox = Mailbox(order.spec, order.mailbox)
    tell(STARTED)
    try:
        source = open_source(order.source)
        tally = _tally(order.source)
        deliver(
            source,
            order.spec,
            put,
            asked=lambda: _none(asks.acquire()),
            region=order.source.region,
            first_stamp=order.first_stamp,
        )
    except SourceEnded:
        tell(ENDED)
    except Unreachable as error:
        tell(LOST, str(error))
    except LinesideError as error:
        tell(FATAL, str(error))
    except Exception as error:  # noqa: BLE001 - a bug, which another attempt would only repeat
        traceback.print_exc()
        tell(FATAL, f"the capture process has ended by an error in this program: {type(error).__name__}: {error}")
    sys.stdout.flush()
    os._exit(0)  # a camera driver that hangs in its clean-up must not keep the process


def _tally(source: Address) -> Tally | None:
    """Sources that are no camera may be told to account for their frames."""
    return Tally(Path(source.options["ledger"])) if "ledger" in source.options else None


def _none(_: object) -> None:
    return None


def _follow(descriptor: int, asks: threading.Semaphore) -> None:
    while asked := os.read(descriptor, 1024):
        asks.release(len(asked))
    os._exit(0)
