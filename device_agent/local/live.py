"""What the agent does at this moment, for whoever looks. Writing costs microseconds; pictures come when asked for."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from device_agent.classify import Prediction
from device_agent.contract.latency import BUCKETS, bucket_of
from device_agent.contract.report import CLOCK_SYNCED, DEGRADED, STAGES, DeviceReport
from device_agent.local.metrics import COUNTERS, GAUGES, SAYS

EVENTS_KEPT, EVENTS_S = 200, 3600.0
RATE_S, MARK_S = 10.0, 0.5
RECENT = 256
KINDS_KEPT = 64
StagesUs = tuple[float, float, float, float]


class Happened(NamedTuple):
    """An event: wall clock in s since 1970, kind, text."""

    wall_s: float
    kind: str
    text: str


class Serving(NamedTuple):
    """What answers: the artifact by name, the bundle's name, class names, whether it is not the first choice."""

    artifact: str = ""
    model: str = ""
    labels: tuple[str, ...] = ()
    degraded: bool = False


class Shot(NamedTuple):
    """A frame, (h, w, 1 or 3) uint8 and not to be written into, with the answer to it."""

    image: NDArray[np.uint8]
    answer: Prediction
    decision: str | None


class View(NamedTuple):
    """One look: everything that page and metrics show, but for the picture. Times in s, latencies in us."""

    serving: Serving
    frames_per_s: float
    recent_us: list[StagesUs]
    buckets: list[list[int]]
    sums_us: list[float]
    counters: dict[str, int]
    gauges: dict[str, float]
    ages_s: dict[str, float]
    decisions: dict[str, int]
    kinds: dict[str, int]
    events: list[Happened]


class LiveState:
    """Shared by the loop, the courier and the servers; every method may be called from any thread.

    Images are kept by reference and never copied here: nobody may write into a frame once it was handed over.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        self._clock, self._wall, self._lock = clock, wall, threading.Lock()
        self._serving = Serving()
        self._shot: Shot | None = None
        self._recent: deque[StagesUs] = deque(maxlen=RECENT)
        self._buckets = [[0] * BUCKETS for _ in STAGES]
        self._sums_us = [0.0] * len(STAGES)
        self._counters = dict.fromkeys(COUNTERS, 0)
        self._gauges: dict[str, float] = {}
        self._moments: dict[str, float] = {}
        self._decisions: dict[str, int] = {}
        self._kinds: dict[str, int] = {}
        self._events: deque[Happened] = deque(maxlen=EVENTS_KEPT)
        self._marks: deque[tuple[float, int]] = deque([(clock(), 0)], maxlen=int(RATE_S / MARK_S) + 1)

    def frame(self, image: NDArray[np.uint8], answer: Prediction, decision: str | None, stages_us: StagesUs) -> None:
        """A frame was answered: image uint8 (h, w, 1 or 3), "pass", "review", "reject" or None, us a stage."""
        found = [bucket_of(spent) for spent in stages_us]
        now = self._clock()
        with self._lock:
            self._shot = Shot(image, answer, decision)
            self._recent.append(stages_us)
            for stage, bucket in enumerate(found):
                self._buckets[stage][bucket] += 1
                self._sums_us[stage] += stages_us[stage]
            self._counters["frames"] += 1
            if decision is not None:
                self._decisions[decision] = self._decisions.get(decision, 0) + 1
            self._moments["frame"] = now
            self._gauges["camera_up"] = 1.0
            if now - self._marks[-1][0] >= MARK_S:
                self._marks.append((now, self._counters["frames"]))

    def serves(self, artifact: str, model: str, labels: list[str], *, degraded: bool) -> None:
        """Another artifact answers from now on."""
        with self._lock:
            self._serving = Serving(artifact, model, tuple(labels), degraded)

    def count(self, name: str, n: int = 1) -> None:
        """Add to one of `metrics.COUNTERS`. Raises KeyError for a name that is none of them."""
        with self._lock:
            self._counters[name] += n

    def gauge(self, name: str, value: float | None) -> None:
        """Set one of `metrics.GAUGES`, None for not known. Raises KeyError for a name that is none of them."""
        GAUGES[name]
        with self._lock:
            if value is None:
                self._gauges.pop(name, None)
            else:
                self._gauges[name] = float(value)

    def moment(self, name: str) -> None:
        """Note that this happened now, such as "ack" or "report": its age is a metric."""
        with self._lock:
            self._moments[name] = self._clock()

    def event(self, kind: str, text: str) -> None:
        """Something that was logged; the last hour of it is shown. Some kinds set a gauge, see `metrics.SAYS`."""
        with self._lock:
            kind = kind[:32]
            if kind in SAYS:
                name, value = SAYS[kind]
                self._gauges[name] = value
            self._events.append(Happened(self._wall(), kind, text[:300]))
            known = kind in self._kinds or len(self._kinds) < KINDS_KEPT
            name = kind if known else "other"
            self._kinds[name] = self._kinds.get(name, 0) + 1

    def report(self, report: DeviceReport) -> None:
        """Take over from a report what it alone knows: dropped frames, the board, the last self-test."""
        self.count("dropped", report.dropped)
        self.gauge("self_test_ok", report.self_test_ok)
        self.gauge("clock_synced", bool(report.flags & CLOCK_SYNCED))
        self.gauge("degraded", bool(report.flags & DEGRADED))
        if (board := report.system) is not None:
            self.gauge("temperature_celsius", board.temperature_c)
            self.gauge("cpu_ratio", None if board.cpu_percent is None else board.cpu_percent / 100)
            self.gauge("throttled", board.throttled)
            self.gauge("resident_memory_bytes", None if board.rss_mib is None else board.rss_mib << 20)
            self.gauge("disk_free_bytes", None if board.disk_free_mib is None else board.disk_free_mib << 20)

    def shot(self) -> Shot | None:
        """The latest frame that was answered, None before the first."""
        return self._shot

    def view(self) -> View:
        """Everything but the image, as of now."""
        now, wall = self._clock(), self._wall()
        with self._lock:
            return View(
                serving=self._serving,
                frames_per_s=self._rate(now),
                recent_us=list(self._recent),
                buckets=[list(stage) for stage in self._buckets],
                sums_us=list(self._sums_us),
                counters=dict(self._counters),
                gauges=dict(self._gauges),
                ages_s={name: now - moment for name, moment in self._moments.items()},
                decisions=dict(self._decisions),
                kinds=dict(self._kinds),
                events=[one for one in self._events if -EVENTS_S < wall - one.wall_s < EVENTS_S],
            )

    def fault(self, frame_s: float = 30.0) -> str:
        """Why frames are not answered, "" if they are: the latest is at most `frame_s` old, or the latest look at a
        camera that waits for parts."""
        with self._lock:
            now = self._clock()
            last = max((self._moments[name] for name in ("frame", "look") if name in self._moments), default=None)
            if last is None:
                return "no frame was answered yet"
            if now - last <= frame_s:
                return ""
            said = f": {self._events[-1].kind}" if self._events else ""
            return f"the last frame was answered {now - last:.0f} s ago{said}"

    def _rate(self, now: float) -> float:
        """Frames a second over the last ten; without a frame the window grows, so the rate falls to nothing."""
        while len(self._marks) > 1 and now - self._marks[0][0] > RATE_S + MARK_S:
            self._marks.popleft()
        began, frames = self._marks[0]
        return (self._counters["frames"] - frames) / (now - began) if now > began else 0.0
