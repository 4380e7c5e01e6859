"""Windows of evidence stand end to end since 1970, so that asking every hour asks once a window."""

from __future__ import annotations

DAY_MS = 86_400_000


def window_of(now_ms: int, days: float) -> tuple[int, int]:
    """Begin and end of the window of so many days that a time (wall-clock ms) falls into.

    >>> window_of(86_400_001, 1), window_of(86_399_999, 1)
    ((86400000, 172800000), (0, 86400000))
    """
    length = max(1, round(days * DAY_MS))
    from_ms = now_ms // length * length
    return from_ms, from_ms + length
