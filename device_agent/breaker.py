"""When an artifact that went wrong may be tried again: later after each fault, sooner after a steady time."""

from __future__ import annotations

FIRST_S, MOST_S = 30.0, 3600.0
STEADY = 10


class Breaker:
    """The circuit breaker of one artifact, on a clock in ns.

    It opens at a fault for 30 s, for twice as long after each further one, at most an hour. Then one trial is due, and
    `close` or another `trip` says how it went. An artifact that served for ten times its last wait begins at 30 s
    again; one that fails sooner after each success is tried less and less.

    >>> breaker, s = Breaker(), 10**9
    >>> breaker.trip(0)
    >>> breaker.is_open(29 * s), breaker.is_due(29 * s), breaker.is_due(30 * s)
    (True, False, True)
    >>> breaker.trip(30 * s)
    >>> breaker.is_due(89 * s), breaker.is_due(90 * s)
    (False, True)
    """

    def __init__(self, first_s: float = FIRST_S, most_s: float = MOST_S) -> None:
        self._first_ns, self._most_ns = int(first_s * 1e9), int(most_s * 1e9)
        self._wait_ns = self._closed_ns = 0
        self._due_ns: int | None = None

    def trip(self, now_ns: int, *, lasting: bool = False) -> None:
        """A fault; one that is `lasting` by its nature opens it for the longest time at once."""
        steady = self._due_ns is None and now_ns - self._closed_ns >= STEADY * self._wait_ns
        wait_ns = self._first_ns if steady else 2 * self._wait_ns
        self._wait_ns = self._most_ns if lasting else min(wait_ns, self._most_ns)
        self._due_ns = now_ns + self._wait_ns

    def close(self, now_ns: int) -> None:
        """A trial went well."""
        self._due_ns, self._closed_ns = None, now_ns

    def is_open(self, now_ns: int) -> bool:
        """Is it too early for another trial?"""
        return self._due_ns is not None and now_ns < self._due_ns

    def is_due(self, now_ns: int) -> bool:
        """Did a fault open it, and is the time for another trial now?"""
        return self._due_ns is not None and now_ns >= self._due_ns
