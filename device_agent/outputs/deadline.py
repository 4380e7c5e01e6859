"""At most so many milliseconds for each part: an answer on time, and never a second one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from msgspec import UNSET

from device_agent.contract.review import Verdict
from device_agent.outputs import Fate
from device_agent.outputs.tally import Tally

MOST_PENDING = 1024
_NEVER = 1 << 63


class _Pending(NamedTuple):
    due_ns: int
    captured_ns: int
    part: int | None


class Deadline:
    """Hands on exactly one verdict for every frame that was expected.

    What a controller on the line wants is one decision for each part, in time to act on it. So whichever comes first
    is the answer: the verdict, or, `after_ms` after the frame was captured, a late answer with the decision `late`. A
    verdict that comes after that is suppressed: the part has gone by, and a second message would be taken for the
    next one. It is in the agent's counts all the same, and `suppressed` says how many there were.

    `expect` says that a frame is on its way; a number that was expected before is not expected again, so numbers rise.
    A thread of its own sends late answers, whatever the caller of `put` is stuck in, as long as that lets go of the
    interpreter, which runtimes do. With over 1024 frames expected at once the oldest is answered before its time.

    Args:
        send: takes each verdict; returns at once.
        clock: monotonic, in ns, the one that frames are stamped with.
    """

    def __init__(
        self,
        send: Callable[[Verdict], None],
        after_ms: int,
        late: Fate,
        *,
        event: Callable[[str, str], None],
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._send, self._after_ms, self._late, self._clock = send, after_ms, late, clock
        self._told = Tally("verdict_late", event)
        self._pending: dict[int, _Pending] = {}
        self._highest = -1
        self._wake = threading.Condition()
        self._wake_ns, self._ended = 0, False
        self._thread: threading.Thread | None = None
        self.suppressed = 0

    @property
    def late(self) -> int:
        """Late answers so far."""
        return self._told.total

    def expect(self, frame: int, captured_ns: int, part: int | None = None) -> None:
        """A frame, captured at `captured_ns`, is to be answered; from any thread, returns at once."""
        due_ns = captured_ns + self._after_ms * 1_000_000
        with self._wake:
            if frame <= self._highest or self._ended:
                return
            self._highest = frame
            self._pending[frame] = _Pending(due_ns, captured_ns, part)
            crowded = len(self._pending) > MOST_PENDING
            if crowded:
                self._answer(next(iter(self._pending)), "too many frames at once")
            if due_ns < self._wake_ns:
                self._wake.notify()
        if crowded:
            self._told.count(f"over {MOST_PENDING} frames at once, the line was told {self._late}")

    def put(self, verdict: Verdict) -> None:
        """Hand on the answer, unless the frame has one; from any thread, returns at once."""
        with self._wake:
            if self._pending.pop(verdict.frame, None) is not None or verdict.frame > self._highest:
                self._highest = max(self._highest, verdict.frame)
                self._send(verdict)
            else:
                self.suppressed += 1
        self._told.tick()

    def answer_due(self) -> None:
        """Answer every frame whose time is up."""
        with self._wake:
            now_ns = self._clock()
            due = [frame for frame, pending in self._pending.items() if pending.due_ns <= now_ns]
            for frame in due:
                self._answer(frame, f"no answer within {self._after_ms} ms")
        for frame in due:
            self._told.count(f"frame {frame}: no answer within {self._after_ms} ms, the line was told {self._late}")

    def _answer(self, frame: int, reason: str) -> None:
        pending = self._pending.pop(frame)
        self._send(no_answer(frame, pending.captured_ns, pending.part, reason, self._late, late=True))

    def start(self) -> None:
        """Begin to send late answers."""
        self._thread = threading.Thread(target=self._run, name="deadline", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended:
            self.answer_due()
            with self._wake:
                self._wake_ns = min((pending.due_ns for pending in self._pending.values()), default=_NEVER)
                wait_ns = self._wake_ns - self._clock()
                if wait_ns > 0 and not self._ended:
                    self._wake.wait(wait_ns / 1e9 if self._wake_ns < _NEVER else None)
                self._wake_ns = 0  # awake: who expects a frame now need not say so

    def close(self) -> None:
        """Answer what is still expected; nothing is expected from here on."""
        with self._wake:
            self._ended = True
            for frame in list(self._pending):
                self._answer(frame, "the agent ends")
            self._wake.notify()
        if self._thread is not None:
            self._thread.join(1.0)
        self._told.say()


def no_answer(frame: int, captured_ns: int, part: int | None, reason: str, decision: str, *, late: bool) -> Verdict:
    """What the line is told where the model did not answer; the decision "none" is left out.

    >>> no_answer(7, 5_000_000, None, "no artifact serves", "review", late=False).decision
    'review'
    """
    return Verdict(
        frame,
        label="",
        role="",
        probability=0.0,
        log_odds=0.0,
        monotonic_ms=captured_ns // 1_000_000,
        late=late,
        decision=UNSET if decision == "none" else decision,
        reason=reason,
        part=UNSET if part is None else part,
    )
