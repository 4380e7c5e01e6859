"""Times in a table: ISO 8601 or seconds since 1970, all with a zone or all without."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput

_ISO = re.compile(
    r"(\d{4})(-?)(\d\d)\2(\d\d)(?:[Tt ](\d\d)(?::?(\d\d)(?::?(\d\d)(?:[.,](\d{1,9}))?)?)?"
    r"\s?([Zz]|[+-]\d\d(?::?\d\d)?)?)?",
    re.ASCII,
)
_SECONDS = re.compile(r"\d{9,10}(?:\.\d+)?", re.ASCII)
FORMS = "ISO 8601 such as 2026-11-22T06:30:00+01:00, or seconds since 1970"


def read_times(texts: Sequence[str], names: Sequence[str], column: str = "time") -> NDArray[np.float64]:
    """Seconds since 1970 of each text: (n,) float64, NaN where it is empty; `names` (n,) say whose it is in an error.

    Seconds since 1970 have 9 or 10 digits and are in UTC; a date alone is the beginning of its day. Where no time has a
    zone they are taken as those of one place, and counted as if in UTC.

    >>> read_times(["1970-01-02T01:00:00+01:00", "1970-01-01T00:00:01.5Z", ""], ["a", "b", "c"]).tolist()
    [86400.0, 1.5, nan]

    Raises:
        BadInput: no such time, or some with a zone and some without, which have no common order.
    """
    seconds = np.full(len(texts), np.nan)
    first: dict[bool, int] = {}
    for row, text in enumerate(texts):
        if not text:
            continue
        when = _read(text)
        if when is None:
            raise BadInput(f"{names[row]}: {column} {text[:60]!r} is no time; give {FORMS}")
        seconds[row], zoned = when
        first.setdefault(zoned, row)
        if len(first) == 2:
            with_zone, without = first[True], first[False]
            raise BadInput(
                f"{names[with_zone]}: {column} {texts[with_zone]!r} has a time zone and {texts[without]!r} of "
                f"{names[without]} has none; they have no common order: give all with a zone, or none"
            )
    return seconds


def say_time(seconds: float) -> str:
    """A time as it is printed.

    >>> say_time(86400.0)
    '1970-01-02T00:00:00'
    """
    return (datetime(1970, 1, 1) + timedelta(seconds=seconds)).isoformat()


def _read(text: str) -> tuple[float, bool] | None:
    """Seconds since 1970, and whether the text says in which zone; None where it is no time."""
    if _SECONDS.fullmatch(text):
        return float(text), True
    found = _ISO.fullmatch(text)
    if found is None:
        return None
    year, _, month, day, hour, minute, second, part, zone = found.groups()
    try:
        when = datetime(
            int(year),
            int(month),
            int(day),
            int(hour or 0),
            int(minute or 0),
            int(second or 0),
            int((part or "0").ljust(6, "0")[:6]),
            tzinfo=_zone(zone),
        )
        return (when - datetime(1970, 1, 1, tzinfo=timezone.utc)).total_seconds(), zone is not None
    except (ValueError, OverflowError):  # no such day, hour or zone
        return None


def _zone(text: str | None) -> timezone:
    if text is None or text in "Zz":
        return timezone.utc
    hours, minutes = int(text[1:3]), int(text[3:].lstrip(":") or 0)
    if minutes > 59:
        raise ValueError(text)
    return timezone((1 if text[0] == "+" else -1) * timedelta(hours=hours, minutes=minutes))
