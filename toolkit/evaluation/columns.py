"""How a column of the manifest divides images: by value, a numeric one by quantile, a time by day or shift."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from toolkit.data.times import read_times
from toolkit.evaluation.answers import Answers

QUANTILES = 4
FEW = 8  # so many different numbers are taken as names
MOST = 100
NOTHING = "(empty)"
TIME_COLUMNS = ("time", "timestamp", "date")
TIMES = ("day", "hour", "shift")


def slices_of(answers: Answers, names: Sequence[str], column: str) -> NDArray[np.str_]:
    """The slice of each image: (n,) str.

    Args:
        names: the classes; the column "class" is the true one.
        column: of the manifest; a time may say how, as in "time:day" (the default), "time:shift" (three of 8 hours from
            06:00 of the clock that the times are in) or "time:hour".

    Raises:
        BadInput: no such column, with those there are; more than 100 different values; a time that is none.
    """
    name, colon, how = column.partition(":")
    known = {"class": [names[label] for label in answers.labels], **answers.columns}
    if column in known:
        name, how = column, ""
    if name not in known:
        raise BadInput(f"no column {name!r} in the manifest; it has {', '.join(known)}")
    if colon and how and how not in TIMES:
        raise BadInput(f"{column}: a time is divided by {', '.join(TIMES)}, got {how!r}")
    values = known[name]
    numbers = _numbers(values)
    if numbers is None or how or name in TIME_COLUMNS:
        times = _times(values, answers.files, name, needed=bool(how))
        if times is not None:
            return _by_time(times, how or "day")
    found = np.array([value or NOTHING for value in values])
    if numbers is not None and len(np.unique(numbers[~np.isnan(numbers)])) > FEW:
        found = _by_quantile(numbers)
    different = len(np.unique(found))
    if different > MOST:
        raise BadInput(f"column {name!r} has {different} different values, too many to compare; at most {MOST}")
    return found


def _numbers(values: Sequence[str]) -> NDArray[np.float64] | None:
    try:
        numbers = np.array([float(value) if value else np.nan for value in values])
    except ValueError:
        return None
    return None if np.isnan(numbers).all() or np.isinf(numbers).any() else numbers


def _times(values: Sequence[str], files: Sequence[str], column: str, *, needed: bool) -> NDArray[np.float64] | None:
    try:
        times = read_times(values, files, column)
    except BadInput:
        if needed:
            raise
        return None
    return None if np.isnan(times).all() else times


def _by_quantile(numbers: NDArray[np.float64]) -> NDArray[np.str_]:
    there = numbers[~np.isnan(numbers)]
    edges = np.unique(np.quantile(there, np.linspace(0, 1, QUANTILES + 1)))
    place = np.clip(np.searchsorted(edges, numbers, side="right") - 1, 0, len(edges) - 2)
    texts = [f"{low:.4g} to {high:.4g}" for low, high in itertools.pairwise(edges)]
    return np.array([NOTHING if np.isnan(number) else texts[at] for number, at in zip(numbers, place, strict=True)])


def _by_time(seconds: NDArray[np.float64], how: str) -> NDArray[np.str_]:
    def name(second: float) -> str:
        if np.isnan(second):
            return NOTHING
        when = datetime(1970, 1, 1) + timedelta(seconds=float(second))
        if how == "day":
            return when.date().isoformat()
        if how == "hour":
            return f"{when.hour:02d}:00"
        return ("06:00 to 14:00", "14:00 to 22:00", "22:00 to 06:00")[(when.hour - 6) % 24 // 8]

    found = np.array([name(second) for second in seconds])
    if how == "day" and len(np.unique(found)) > MOST:
        return _by_time_quantile(seconds)
    return found


def _by_time_quantile(seconds: NDArray[np.float64]) -> NDArray[np.str_]:
    edges = np.unique(np.nanquantile(seconds, np.linspace(0, 1, QUANTILES + 1)))
    days = [(datetime(1970, 1, 1) + timedelta(seconds=float(edge))).date().isoformat() for edge in edges]
    place = np.clip(np.searchsorted(edges, seconds, side="right") - 1, 0, len(edges) - 2)
    texts = [f"{low} to {high}" for low, high in itertools.pairwise(days)]
    return np.array([NOTHING if np.isnan(one) else texts[at] for one, at in zip(seconds, place, strict=True)])
