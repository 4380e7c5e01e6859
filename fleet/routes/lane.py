"""A lane: one route, and the one notice that is on its way there, in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from device_agent.contract.errors import LinesideError
from fleet.routes import Notice, NotTaken, Route
from fleet.routes.outbox import Delivery
from fleet.routes.settings import RouteSettings

ABANDONED = 3
MINUTE_S = 60.0


class Outcome(NamedTuple):
    """What became of a notice: `fault` is None where it was taken."""

    notice: Notice
    deliveries: list[Delivery]
    fault: NotTaken | None


class Lane:
    """Sends one notice at a time. A route that does not come back within `limit_s` is left to itself and made anew;
    after `ABANDONED` that still hang, the lane waits for one of them.

    Args:
        make: makes the route; called again after it was left to itself.
        start: runs a function beside this one.
        clock_s: seconds that nobody sets.
    """

    def __init__(
        self,
        settings: RouteSettings,
        make: Callable[[], Route],
        *,
        start: Callable[[Callable[[], None]], None],
        clock_s: Callable[[], float],
    ) -> None:
        self.settings, self._make, self._start, self._clock_s = settings, make, start, clock_s
        self.limit_s = 3 * settings.timeout_s + 30
        self._route = make()
        self._lock = threading.Lock()
        self._job: tuple[Notice, list[Delivery], float] | None = None
        self._outcome: Outcome | None = None
        self._sent_s: list[float] = []
        self._turn = 0
        self._hanging = 0

    @property
    def busy(self) -> bool:
        """Whether a notice is on its way, or its outcome not taken yet."""
        return self._job is not None or self._hanging > ABANDONED

    def budget(self) -> int:
        """How many messages may go now, of `most_a_minute`."""
        now_s = self._clock_s()
        self._sent_s = [at_s for at_s in self._sent_s if now_s - at_s < MINUTE_S]
        return max(0, self.settings.most_a_minute - len(self._sent_s))

    def send(self, notice: Notice, deliveries: list[Delivery]) -> None:
        """Set a notice on its way."""
        self._sent_s.append(self._clock_s())
        self._job = (notice, deliveries, self._clock_s())
        turn, route = self._turn, self._route
        self._start(lambda: self._work(turn, route, notice, deliveries))

    def outcome(self) -> Outcome | None:
        """What became of the notice, once that is known; it stays until `done`."""
        with self._lock:
            if self._outcome is None and self._job is not None:
                notice, deliveries, since_s = self._job
                if self._clock_s() - since_s > self.limit_s:
                    self._outcome = Outcome(notice, deliveries, NotTaken(f"blocked for {self.limit_s:.0f} s"))
                    self._turn, self._hanging = self._turn + 1, self._hanging + 1
                    with suppress(LinesideError):  # a file of secrets that went away: the old one may still do
                        self._route = self._make()
            return self._outcome

    def done(self) -> None:
        """The outcome was written down; the next notice may go."""
        with self._lock:
            self._job = self._outcome = None

    def close(self) -> None:
        """Hang up, unless something is on its way."""
        if self._job is None:
            self._route.close()

    def _work(self, turn: int, route: Route, notice: Notice, deliveries: list[Delivery]) -> None:
        fault: NotTaken | None = None
        try:
            route.take(notice)
        except NotTaken as error:
            fault = error
        except Exception as error:  # noqa: BLE001 - a plug-in may raise anything; the next notice is to go all the same
            fault = NotTaken(f"{type(error).__name__}: {error}".splitlines()[0][:200])
        with self._lock:
            if turn == self._turn:
                self._outcome = Outcome(notice, deliveries, fault)
            else:
                self._hanging -= 1
