"""Several cameras as one: a thread waits for each, the loop takes what is there, each camera in its turn."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from device_agent.contract.errors import LinesideError
from device_agent.contract.manifest import InputSpec
from device_agent.frames import Frame, Frames, SourceEnded

WAIT_S = 0.25
BACK_OFF_S = (1.0, 30.0)


class _Waiter:
    """One camera's thread and its slot of one frame. Everything about the camera is done in this thread.

    A `fresh` camera delivers at its own rate: the slot holds its latest frame, and one that nobody took is dropped. Of
    any other one each frame waits until it is taken. A camera that cannot be opened is tried again, ever later.
    """

    def __init__(self, number: int, frames: Frames, wake: threading.Condition, *, fresh: bool) -> None:
        self._number, self._frames, self._wake, self._fresh = number, frames, wake, fresh
        self._frame: Frame | None = None
        self._spec: InputSpec | None = None
        self._stop = False
        self.ended = False
        self.error: LinesideError | None = None
        self._thread = threading.Thread(target=self._run, name=f"camera-{number}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        attempts = 0
        while not (self._stop or self.ended):
            try:
                self._fetch()
                attempts = 0
            except SourceEnded:
                self._tell(None, ended=True)
            except LinesideError as error:
                self._tell(error)
                self._rest(attempts := attempts + 1)
            except Exception as error:  # noqa: BLE001 - a bug in one camera's part must not blind it for good
                self._tell(LinesideError(f"error in this program: {type(error).__name__}: {error}"))
                self._rest(attempts := attempts + 1)

    def _fetch(self) -> None:
        """The next frame into the slot."""
        with self._wake:
            self._wake.wait_for(lambda: self._fresh or self._frame is None or self._stop)
            spec, self._spec = self._spec, None
        if self._stop:
            return
        if spec is not None:
            self._frames.refit(spec)
        frame = self._frames.next(WAIT_S)
        with self._wake:
            # a frame for an input that is asked for no more is left out, and counts as dropped
            if frame is not None and self._spec is None:
                self._frame, self.error = frame._replace(camera=self._number), None
                self._wake.notify_all()

    def _tell(self, error: LinesideError | None, *, ended: bool = False) -> None:
        with self._wake:
            self.ended, self.error = ended, error
            self._wake.notify_all()

    def _rest(self, attempts: int) -> None:
        low_s, high_s = BACK_OFF_S
        with self._wake:
            self._wake.wait_for(lambda: self._stop, min(high_s, low_s * 2 ** min(attempts - 1, 16)))

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

    A camera that fails or ends leaves the others alone: `lost(camera, why)` is called once for each time, and
    `found(camera)` when one that had failed delivers again. When all have ended or fail, the source has ended; if all
    fail, what the last one said is raised.
    """

    def __init__(
        self,
        cameras: Sequence[Frames],
        lost: Callable[[int, str], None],
        found: Callable[[int], None] = lambda _camera: None,
        *,
        fresh: Sequence[bool] = (),
    ) -> None:
        self._wake = threading.Condition()
        own = [*fresh, *[False] * (len(cameras) - len(fresh))]
        self._waiters = [
            _Waiter(number, frames, self._wake, fresh=own[number]) for number, frames in enumerate(cameras)
        ]
        self._told: set[int] = set()
        self._lost, self._found, self._turn = lost, found, 0

    def next(self, timeout_s: float) -> Frame | None:
        """The next frame of any camera, None when none came within the time.

        Raises:
            SourceEnded: all cameras have ended.
            LinesideError: no camera is left that neither ended nor failed; what the last one said.
        """
        with self._wake:
            frame = self._look()
            if frame is None and timeout_s > 0:
                self._wake.wait(timeout_s)
                frame = self._look()
        self._tell(frame)
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

    def _tell(self, frame: Frame | None) -> None:
        """Say who was lost and who was found; raise when nobody is left."""
        if frame is not None and frame.camera in self._told:
            self._told.discard(frame.camera)
            self._found(frame.camera)
        failed = {at: waiter.error for at, waiter in enumerate(self._waiters) if waiter.error is not None}
        if frame is None and len(failed) == len(self._waiters):
            raise list(failed.values())[-1]
        for at, error in failed.items():
            if at not in self._told:
                self._told.add(at)
                self._lost(at, str(error))
        if frame is None and all(waiter.ended or waiter.error is not None for waiter in self._waiters):
            raise SourceEnded

    def refit(self, spec: InputSpec) -> None:
        """Deliver frames for another input."""
        with self._wake:
            for waiter in self._waiters:
                waiter.refit(spec)

    def close(self) -> None:
        """End the threads; the cameras themselves are closed by whoever made them."""
        for waiter in self._waiters:
            waiter.close()
