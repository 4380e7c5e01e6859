"""Which frames are kept for review. Pure: no clock, no disk; a few microseconds a frame, and two frames in memory."""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar

from device_agent.contract.histogram import BINS

MINUTE_NS, HOUR_NS, DAY_NS = 60 * 10**9, 3600 * 10**9, 86_400 * 10**9


class Candidate(Protocol):
    """What is known of a frame that was answered: its histogram cell class * 24 + bin, log-odds of the top-1
    probability, and whether the operating point sends the part to review."""

    @property
    def cell(self) -> int: ...
    @property
    def log_odds(self) -> float: ...
    @property
    def review(self) -> bool: ...


C = TypeVar("C", bound=Candidate)


class Limits(NamedTuple):
    """How many frames, see `settings.SampleSettings`."""

    per_minute: int
    per_hour: int
    per_day: int
    per_cell: int
    random_per_day: int
    below: float


@dataclass(frozen=True)
class Chosen(Generic[C]):
    """A frame to keep. `reason` is "low", "review" or "random"; `probability`, 0 to 1, that this frame was drawn from
    those of its stretch of time, None where it was picked for its doubt."""

    frame: C
    reason: str
    probability: float | None = None


class Quota:
    """At most `limit` frames in any stretch of `window_ns`."""

    def __init__(self, limit: int, window_ns: int) -> None:
        self._limit, self._window_ns = limit, window_ns
        self._taken: deque[int] = deque()

    def used(self, now_ns: int) -> int:
        """Frames taken in the window that ends now."""
        while self._taken and now_ns - self._taken[0] >= self._window_ns:
            self._taken.popleft()
        return len(self._taken)

    def room(self, now_ns: int) -> bool:
        """May another one be taken?"""
        return self.used(now_ns) < self._limit

    def take(self, now_ns: int) -> None:
        """Count one."""
        self._taken.append(now_ns)

    def pause_ns(self, now_ns: int) -> int:
        """How long to look before the next is taken: the fuller, the longer, up to an even pace over the window.

        >>> quota = Quota(4, 100)
        >>> quota.pause_ns(0), quota.take(0), quota.take(0), quota.pause_ns(0)
        (0, None, None, 12)
        """
        return self._window_ns * self.used(now_ns) // self._limit**2


class Chooser(Generic[C]):
    """Doubtful frames within quotas, and a few drawn from all.

    Doubtful ones: a look begins with the first such frame and lasts a minute's share or longer, the fuller the quotas
    are; at its end one frame is kept. Cells with fewer frames in the last day come first, then what the operating point
    sends to review, then the lowest bin; equals are drawn. So a burst of bad frames gives a few that differ, and a
    quota of a day lasts for hours of it.

    Random ones: one from each n-th of a day, drawn from all frames of it alike.
    """

    def __init__(self, limits: Limits, rng: random.Random, now_ns: int) -> None:
        self._limits, self._rng = limits, rng
        self._minute = Quota(limits.per_minute, MINUTE_NS)
        self._hour = Quota(limits.per_hour, HOUR_NS)
        self._day = Quota(limits.per_day, DAY_NS)
        self._cells: Counter[int] = Counter()
        self._taken: deque[tuple[int, int]] = deque()
        self._best: C | None = None
        self._rank: tuple[int, bool, int, float] = (0, False, 0, 0.0)
        self._since_ns = 0
        self._drawn: C | None = None
        self._seen = 0
        self._slot_from_ns = now_ns
        self._slot_ns = DAY_NS // limits.random_per_day if limits.random_per_day else 0

    def restore(self, taken: Iterable[tuple[int, int]], now_ns: int) -> None:
        """Count frames that were kept before a restart: pairs of age in ns, >= 0, and cell."""
        for age_ns, cell in sorted(taken, reverse=True):
            if age_ns < DAY_NS:
                self._count(now_ns - age_ns, cell)

    def offer(self, frame: C, now_ns: int) -> list[Chosen[C]]:
        """The frames to keep now, none mostly; `now_ns` is monotonic and never less than before."""
        chosen = self._end_look(now_ns) + self._end_slot(now_ns)
        self._consider(frame, now_ns)
        if self._slot_ns:
            self._seen += 1
            if self._rng.random() * self._seen < 1:  # a reservoir of one
                self._drawn = frame
        return chosen

    def flush(self, now_ns: int) -> list[Chosen[C]]:
        """The frame of the look that is open, if the quotas allow it. A random one is not given before its time."""
        return self._release(now_ns)

    def _consider(self, frame: C, now_ns: int) -> None:
        if not (frame.review or frame.log_odds < self._limits.below):
            return
        self._forget(now_ns)
        held = self._cells[frame.cell]
        if held >= self._limits.per_cell:
            return
        rank = (held, not frame.review, frame.cell % BINS, self._rng.random())
        if self._best is None:
            self._since_ns = now_ns
        if self._best is None or rank < self._rank:
            self._best, self._rank = frame, rank

    def _end_look(self, now_ns: int) -> list[Chosen[C]]:
        if self._best is None:
            return []
        least_ns = MINUTE_NS // self._limits.per_minute
        pause_ns = max(least_ns, self._hour.pause_ns(now_ns), self._day.pause_ns(now_ns))
        return self._release(now_ns) if now_ns - self._since_ns >= pause_ns else []

    def _release(self, now_ns: int) -> list[Chosen[C]]:
        best = self._best
        if best is None or not all(quota.room(now_ns) for quota in (self._minute, self._hour, self._day)):
            return []
        self._best = None
        self._count(now_ns, best.cell)
        return [Chosen(best, "review" if best.review else "low")]

    def _count(self, at_ns: int, cell: int) -> None:
        for quota in (self._minute, self._hour, self._day):
            quota.take(at_ns)
        self._cells[cell] += 1
        self._taken.append((at_ns, cell))

    def _forget(self, now_ns: int) -> None:
        while self._taken and now_ns - self._taken[0][0] >= DAY_NS:
            _, cell = self._taken.popleft()
            self._cells[cell] -= 1
            if not self._cells[cell]:
                del self._cells[cell]

    def _end_slot(self, now_ns: int) -> list[Chosen[C]]:
        if not self._slot_ns or now_ns - self._slot_from_ns < self._slot_ns:
            return []
        drawn, seen = self._drawn, self._seen
        self._drawn, self._seen, self._slot_from_ns = None, 0, now_ns
        return [] if drawn is None else [Chosen(drawn, "random", 1 / seen)]
