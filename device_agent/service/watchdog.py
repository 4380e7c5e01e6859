"""When the watchdog is fed: the loop turns, and frames, reports and acknowledgements come, or it was said why not.

A restart helps against a thread that hangs. It does not help against a camera that is unplugged or a broker that is
down, so what was said to a person is an excuse; only for a loop or a courier that stands still there is none. All times
are monotonic: no jump of the wall clock fires anything.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from device_agent.service.notify import Notifier

BUSY_MOST_S = 300.0
EXCUSES = {
    "camera_lost": "frame",
    "infer_failed": "frame",
    "artifact_refused": "frame",
    "self_test_failed": "frame",
    "breaker_open": "frame",
    "no_verdict": "frame",
    "spool_unwritable": "report",
    "no_broker": "ack",
    "broker_unreachable": "ack",
    "not_authorized": "ack",
    "quota_exceeded": "ack",
    "refused": "ack",
    "ack_refused": "ack",
}
"""Events, and what does not come because of them, until it comes again."""
RETURNS = {"camera_found": "frame", "spool_writable": "report", "broker_connected": "ack"}
"""Events after which it has its full time to come again."""


class Bounds(NamedTuple):
    """The most seconds between two turns of the loop and of the courier, two frames, two reports, and from a report to
    an acknowledgement."""

    loop_s: float = 15.0
    courier_s: float = 120.0
    frame_s: float = 60.0
    report_s: float = 300.0
    ack_s: float = 3600.0

    @classmethod
    def of(cls, interval_s: float, fps: float = 30.0) -> Bounds:
        """Fitted to the report interval in s and the frame rate.

        >>> Bounds.of(60.0), Bounds.of(1.0, fps=0.1).frame_s
        (Bounds(loop_s=15.0, courier_s=120.0, frame_s=60.0, report_s=300.0, ack_s=3600.0), 100.0)
        """
        return cls(frame_s=max(60.0, 10.0 / fps), report_s=120.0 + 3 * interval_s, ack_s=max(3600.0, 10 * interval_s))


class Judgement(NamedTuple):
    """Whether the watchdog is fed, and what is to be said: what stands still, or what is late without a reason."""

    fed: bool
    said: str = ""


class Progress:
    """Counts turns and results; `check` judges. Every method may be called from any thread and returns at once."""

    def __init__(self, bounds: Bounds, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._most = bounds._asdict()
        now = clock()
        self._at = dict.fromkeys(("loop", "courier", "frame", "report", "ack"), now)
        self._excused: dict[str, str] = {}
        self._waits = False
        self._busy_until = now

    def fit(self, bounds: Bounds) -> None:
        """Judge by other bounds from now on."""
        with self._lock:
            self._most = bounds._asdict()

    def tick(self) -> None:
        """The loop has turned. To be called by the loop's own thread alone: another one proves nothing."""
        self._note("loop")

    def courier(self) -> None:
        """The courier has turned; by its own thread alone."""
        self._note("courier")

    def frame(self) -> None:
        """A frame was answered."""
        self._note("frame")

    def stored(self) -> None:
        """A report is in the spool."""
        with self._lock:
            if not self._waits:
                self._at["ack"] = self._clock()  # from here on an acknowledgement is due
            self._waits = True
        self._note("report")

    def acked(self) -> None:
        """The monitor acknowledged a report."""
        with self._lock:
            self._waits = False
        self._note("ack")

    def busy(self, seconds: float) -> None:
        """The loop will not turn for up to so long, at most 300 s, as while a model is loaded; its next turn ends
        that."""
        with self._lock:
            self._busy_until = self._clock() + min(seconds, BUSY_MOST_S)

    def excuse(self, kind: str) -> None:
        """An event of this kind was reported. Those that explain nothing change nothing, so all events may be given."""
        with self._lock:
            if kind in EXCUSES:
                self._excused[EXCUSES[kind]] = kind
            elif kind in RETURNS:
                what = RETURNS[kind]
                self._excused.pop(what, None)
                self._at[what] = self._clock()

    def _note(self, what: str) -> None:
        with self._lock:
            self._at[what] = now = self._clock()
            self._excused.pop(what, None)
            if what == "loop":
                self._busy_until = now

    def check(self) -> Judgement:
        """Is everything that should move moving, or is it known why not?"""
        with self._lock:
            now = self._clock()
            late = {
                what: age for what, at in self._at.items() if (age := now - at) > self._most[f"{what}_s"]
            }  # fmt: skip
            if now < self._busy_until:
                late = {what: age for what, age in late.items() if what in ("courier", "ack")}
            if not self._waits:
                late.pop("ack", None)
            for what in ("loop", "courier", "frame", "report"):
                if what in late and what not in self._excused:
                    return Judgement(False, f"no {_WORDS[what]} for {late[what]:.0f} s, and nothing was said of it")
            if "ack" in late and "ack" not in self._excused:  # the courier turns: the monitor is it that is silent
                self._excused["ack"] = "ack_overdue"
                return Judgement(True, f"no acknowledgement for {late['ack']:.0f} s though the broker is connected")
            return Judgement(True)


_WORDS = {"loop": "turn of the loop", "courier": "turn of the courier", "frame": "answered frame", "report": "report"}


class Watchdog:
    """Feeds systemd from its own thread while `progress` is sound; without systemd it only says what stands still. Each
    fault is said once, as an event and as the unit's status."""

    def __init__(
        self,
        notifier: Notifier,
        progress: Progress,
        event: Callable[[str, str], None],
        *,
        interval_s: float | None = None,
    ) -> None:
        self._notifier, self._progress, self._event = notifier, progress, event
        self._interval_s = interval_s or notifier.interval_s or 15.0
        self._end = threading.Event()
        self._said = ""
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            self.turn()
            if self._end.wait(self._interval_s):
                return

    def turn(self) -> None:
        """Judge once, and feed if it is good."""
        judgement = self._progress.check()
        if judgement.fed:
            self._notifier.watchdog()
        kind = "" if not judgement.said else "ack_overdue" if judgement.fed else "watchdog"
        if kind and kind != self._said:
            self._notifier.status(judgement.said)
            self._event(kind, judgement.said)
        if kind or judgement.fed:
            self._said = kind

    def close(self) -> None:
        """End the thread; what systemd still expects is the stopping agent's own."""
        self._end.set()
        self._thread.join(2.0)
