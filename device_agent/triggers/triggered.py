"""One frame for each part that a trigger announces."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from device_agent.contract.manifest import InputSpec
from device_agent.frames import Frame, Frames, SourceEnded
from device_agent.outputs.tally import Tally
from device_agent.triggers import Fired, Trigger

MOST_AWAITED = 1024
LOOK_S = 0.25  # how often the source is looked at while no part is awaited, so that a lost camera is noticed


class Triggered:
    """Frames of which only those that show a part are handed on, see `loop.Frames`.

    - A part's frame is the first one captured at or after it fired. A frame from before, such as the one that waits in
      the mailbox, shows the part before it and is passed over.
    - Where parts come faster than frames, a frame belongs to the last part that had fired when it was captured: the
      ones before it have gone by. They are missed, as is a part without a frame within the trigger's `within_s`.
    - Frames are numbered anew: `stamp` and `part` are the number of the part. So a gap in the stamps, which a report
      counts as dropped, is a part that went by unseen, and a frame that no part asked for is not counted at all.

    Each missed part is an event (`missed_part`, at once and then at most every minute with their number), counted in
    `missed`, and told to `miss(fired, reason)`. `looked()` hears of every frame of the source: the camera works, though
    no part may come for hours.
    """

    def __init__(
        self,
        frames: Frames,
        trigger: Trigger,
        miss: Callable[[Fired, str], None],
        event: Callable[[str, str], None],
        *,
        looked: Callable[[], None] = lambda: None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._frames, self._trigger, self._miss, self._clock = frames, trigger, miss, clock
        self._looked = looked
        self._within_ns = int(trigger.within_s * 1e9)
        self._said = Tally("missed_part", event)
        self._awaited: deque[Fired] = deque()
        self._next_number = 0
        self._seen: Frame | None = None  # the last one that nobody asked for: its part may be announced a little late

    @property
    def missed(self) -> int:
        """Parts that went by unseen so far."""
        return self._said.total

    def next(self, timeout_s: float) -> Frame | None:
        """The frame of the next part, None when there was none within the time.

        Raises:
            SourceEnded: the source has ended; parts that were awaited are missed.
            LinesideError: as of the source.
        """
        end_ns = self._clock() + int(timeout_s * 1e9)
        while True:
            self._hear(0.0 if self._awaited else min(self._until(end_ns), LOOK_S))
            frame = self._choose(self._seen) if self._seen is not None else None
            if frame is None:
                frame = self._look(self._until(end_ns) if self._awaited else 0.0)
            if frame is not None:
                return frame
            self._give_up()
            if self._clock() >= end_ns:
                return None

    def _until(self, end_ns: int) -> float:
        return max(0.0, (end_ns - self._clock()) / 1e9)

    def _hear(self, timeout_s: float) -> None:
        """Take over what was announced; wait for it at most so long."""
        while len(self._awaited) < MOST_AWAITED and (fired := self._trigger.wait(timeout_s)) is not None:
            timeout_s = 0.0
            for number in range(self._next_number, fired.number):
                self._go_by(Fired(fired.at_ns, number), "too many parts at once")
            self._next_number = fired.number + 1
            self._awaited.append(fired)

    def _look(self, timeout_s: float) -> Frame | None:
        """The next frame of the source if it shows a part."""
        try:
            frame = self._frames.next(timeout_s)
        except SourceEnded:
            self._miss_all("the source has ended")
            raise
        if frame is None:
            return None
        self._looked()
        self._hear(0.0)
        return self._choose(frame)

    def _choose(self, frame: Frame) -> Frame | None:
        """The frame as that of the last part that had fired when it was captured; None if it shows none."""
        chosen: Fired | None = None
        while self._awaited and self._awaited[0].at_ns <= frame.captured_ns:
            if chosen is not None:
                self._go_by(chosen, "the next part came before a frame")
            chosen = self._awaited.popleft()
        if chosen is not None and frame.captured_ns - chosen.at_ns > self._within_ns:
            self._go_by(chosen, self._too_late())
            chosen = None
        if chosen is None:
            self._seen = frame
            return None
        self._seen = None
        return frame._replace(stamp=chosen.number, part=chosen.number)

    def _give_up(self) -> None:
        while self._awaited and self._clock() - self._awaited[0].at_ns > self._within_ns:
            self._go_by(self._awaited.popleft(), self._too_late())
        self._said.tick()

    def _too_late(self) -> str:
        return f"no frame within {self._within_ns / 1e6:g} ms"

    def _miss_all(self, reason: str) -> None:
        while self._awaited:
            self._go_by(self._awaited.popleft(), reason)

    def _go_by(self, fired: Fired, reason: str) -> None:
        self._said.count(f"part {fired.number}: {reason}")
        self._miss(fired, reason)

    def refit(self, spec: InputSpec) -> None:
        """Deliver frames for another input."""
        self._seen = None
        self._frames.refit(spec)

    def close(self) -> None:
        """Await no further parts, and say what was not said yet; the source is its owner's."""
        self._trigger.close()
        self._said.say()
