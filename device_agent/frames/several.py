"""Several cameras as one: a thread waits for each, the loop takes what is there, each camera in its turn."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from device_agent.contract.errors import LinesideError
from device_agent.contract.manifest import InputSpec
from device_agent.frames import Frame, Frames, SourceEnded

WAIT_S = 0.25


class _Waiter:
    """One camera's thread and its slot of one frame. Everything about the camera is done in this thread."""

    def __init__(self, number: int, frames: Frames, wake: threading.Condition) -> None:
        self._number, self._frames, self._wake = number, frames, wake
        self._frame: Frame | None = None
        self._spec: InputSpec | None = None
        self._stop = False
        self.ended = False
        self.error: LinesideError | None = None
        self._thread = threading.Thread(target=self._run, name=f"camera-{number}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._stop:
                with self._wake:
                    self._wake.wait_for(lambda: self._frame is None or self._stop)
                    spec, self._spec = self._spec, None
                if spec is not None:
                    self._frames.refit(spec)
                frame = self._frames.next(WAIT_S)
                with self._wake:
                    # a frame for an input that is asked for no more is left out, and counts as dropped
                    if frame is not None and self._spec is None:
                        self._frame = frame._replace(camera=self._number)
                        self._wake.notify_all()
        except SourceEnded:
            self._end(None)
        except LinesideError as error:
            self._end(error)

    def _end(self, error: LinesideError | None) -> None:
        with self._wake:
            self.ended, self.error = True, error
            self._wake.notify_all()

    def take(self) -> Frame | None:
        """The frame in the slot; the lock is held."""
        frame, self._frame = self._frame, None
        if frame is not None:
            self._wake.notify_all()
        return frame

    def refit(self, spec: InputSpec) -> None:
        """The lock is held."""
        self._spec, self._frame = spec, None
        self._wake.notify_all()

    def close(self) -> None:
        """End the thread."""
        with self._wake:
            self._stop, self._frame = True, None
            self._wake.notify_all()
        self._thread.join(5.0)


class Several:
    """Frames of several cameras, `Frame.camera` says of which.

    A camera that cannot be opened or ends leaves the others alone: `lost(camera, why)` is called once. When none is
    left, the source has ended; if all failed, what the last one said is raised.
    """

    def __init__(self, cameras: Sequence[Frames], lost: Callable[[int, str], None]) -> None:
        self._wake = threading.Condition()
        self._waiters = [_Waiter(number, frames, self._wake) for number, frames in enumerate(cameras)]
        self._left = dict(enumerate(self._waiters))
        self._lost, self._turn = lost, 0

    def next(self, timeout_s: float) -> Frame | None:
        """The next frame of any camera, None when none came within the time.

        Raises:
            SourceEnded: all cameras have ended.
            LinesideError: all cameras have ended, the last one by this fault.
        """
        with self._wake:
            frame = self._look()
            if frame is None and timeout_s > 0:
                self._wake.wait(timeout_s)
                frame = self._look()
        if frame is None:
            self._let_go()
        return frame

    def _look(self) -> Frame | None:
        """The first frame from the camera whose turn it is on."""
        count = len(self._waiters)
        for step in range(count):
            number = (self._turn + step) % count
            frame = self._waiters[number].take()
            if frame is not None:
                self._turn = number + 1
                return frame
        return None

    def _let_go(self) -> None:
        for number, waiter in list(self._left.items()):
            if waiter.ended:
                del self._left[number]
                if waiter.error and (self._left or not self._all_failed()):
                    self._lost(number, str(waiter.error))
                if not self._left:
                    raise (waiter.error if self._all_failed() and waiter.error else SourceEnded)

    def _all_failed(self) -> bool:
        return all(waiter.error is not None for waiter in self._waiters)

    def refit(self, spec: InputSpec) -> None:
        """Deliver frames for another input."""
        with self._wake:
            for waiter in self._waiters:
                waiter.refit(spec)

    def close(self) -> None:
        """End the threads; the cameras themselves are closed by whoever made them."""
        for waiter in self._waiters:
            waiter.close()
