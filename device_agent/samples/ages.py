"""How old something is by a wall clock that may not be set: a board without a battery begins in 1970."""

from __future__ import annotations

SET_MS = 1_735_689_600_000  # 2025: a clock that says less is not set


def age_ms(then_ms: int, now_ms: int) -> int | None:
    """Age in ms; None where one of the two clocks cannot have been right.

    >>> age_ms(SET_MS, SET_MS + 5), age_ms(300_000, SET_MS), age_ms(SET_MS + 5, SET_MS)
    (5, None, None)
    """
    return now_ms - then_ms if SET_MS <= then_ms <= now_ms else None
