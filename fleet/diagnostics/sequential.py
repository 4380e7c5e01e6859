"""Textbook tests that need no blocks: Page-Hinkley and ADWIN, on the mean confidence of a report.

Both are made for independent values of a known scale. So the mean confidence of a report is taken in standard errors of
its independent frames: (mean - normal mean) / (normal deviation * sqrt(phi / frames)).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from device_agent.contract.histogram import BINS
from fleet.diagnostics.contract import BLOCK, LEVEL, Finding
from fleet.diagnostics.normal import CONFIDENCE, Dispersion, Floats, Integers, Normal, Rows

SLACK = 0.5
WIDEST = 10.0
"""Standard errors to either side that ADWIN's range of 0 to 1 holds."""


class _Confidence:
    """Mean confidence of reports in standard errors."""

    def __init__(self, normal: Normal) -> None:
        self._mean, self._deviation = normal.confidence
        self.dispersion = Dispersion(normal)

    def grow(self, normal: Normal) -> None:
        mean, deviation = normal.confidence
        self._mean = np.concatenate([self._mean, mean])
        self._deviation = np.concatenate([self._deviation, deviation])
        self.dispersion.grow(normal)

    def errors(self, rows: Rows, cells: Integers, frames: Integers, same: Integers) -> Floats:
        """(n,), 0 where there are no frames."""
        phi = self.dispersion.update(rows, frames, same)
        n = np.asarray(frames, np.float64)
        mean = cells.reshape(len(rows), -1, BINS).sum(axis=1) @ CONFIDENCE / np.maximum(n, 1)
        error = self._deviation[rows] * np.sqrt(phi / np.maximum(n, 1))
        return np.asarray(np.where(n > 0, (mean - self._mean[rows]) / error, 0.0))


class PageHinkley:
    """Page-Hinkley in both directions (Page 1954; Hinkley 1971): the sum of errors beyond a slack of 0.5 against its
    lowest value; it starts anew after an alarm.

    Args:
        normal: one row a device.
        level: sets the threshold to ln(block / level) / (2 slack), Lorden's bound for Gaussian errors and one false
            alarm in block / level reports.
        block: reports that the level is meant for.

    Raises:
        BadInput: as `BlockTest`.
    """

    def __init__(self, normal: Normal, *, level: float = LEVEL, block: int = BLOCK) -> None:
        _check(level, block)
        self._limit = math.log(2 * block / level) / (2 * SLACK)
        self._confidence = _Confidence(normal)
        self._sums = np.zeros((len(normal), 2))

    def grow(self, normal: Normal) -> None:
        """See `DriftTest`."""
        self._confidence.grow(normal)
        self._sums = np.concatenate([self._sums, np.zeros((len(normal), 2))])

    def reset(self, rows: Rows) -> None:
        """See `DriftTest`."""
        self._sums[rows] = 0

    def update(self, rows: Rows, cells: Integers, frames: Integers, same: Integers) -> Finding:
        """See `DriftTest`."""
        error = self._confidence.errors(rows, cells, frames, same)
        sums = np.maximum(self._sums[rows] + np.column_stack([error, -error]) - SLACK, 0)
        statistic = sums.max(axis=1)
        alarm = statistic > self._limit
        self._sums[rows] = np.where(alarm[:, None], 0, sums)
        return Finding(statistic, np.full(len(rows), self._limit), alarm)

    def state(self, row: int) -> bytes:
        """See `DriftTest`."""
        return np.concatenate([self._sums[row], self._confidence.dispersion.state(row)]).tobytes()

    def restore(self, row: int, memory: bytes) -> None:
        """See `DriftTest`."""
        numbers = _numbers(memory, 4)
        self._sums[row] = numbers[:2]
        self._confidence.dispersion.restore(row, numbers[2:])


class Adwin:
    """ADWIN (Bifet and Gavalda 2007): a window of values that is cut where its older and newer part differ.

    Values are kept in buckets of 1, 2, 4, ... values, at most `BUCKETS` of each size, newest first. The statistic is
    the largest |difference of means| / cut-off over the places where two buckets meet; over 1 is an alarm, and the
    oldest buckets go until none is over 1.

    Args:
        normal: one row a device.
        level: delta of the cut-off is level / block.
        block: reports that the level is meant for; places are looked at once in `EVERY` reports.

    Raises:
        BadInput: as `BlockTest`.
    """

    BUCKETS, SIZES, EVERY, LEAST = 5, 14, 8, 10

    def __init__(self, normal: Normal, *, level: float = LEVEL, block: int = BLOCK) -> None:
        _check(level, block)
        self._delta = level / block * self.EVERY
        self._confidence = _Confidence(normal)
        self._places = self._blank(len(normal))
        self._size = np.repeat(2.0 ** np.arange(self.SIZES), self.BUCKETS + 1)

    def _blank(self, devices: int) -> NDArray[np.void]:
        spots = (self.SIZES, self.BUCKETS + 1)
        kinds = [("sum", np.float32, spots), ("square", np.float32, spots), ("used", np.int8, (self.SIZES,))]
        return np.zeros(devices, [*kinds, ("seen", np.int32), ("statistic", np.float32)])

    def grow(self, normal: Normal) -> None:
        """See `DriftTest`."""
        self._confidence.grow(normal)
        self._places = np.concatenate([self._places, self._blank(len(normal))])

    def reset(self, rows: Rows) -> None:
        """See `DriftTest`."""
        self._places[rows] = self._blank(len(rows))

    def update(self, rows: Rows, cells: Integers, frames: Integers, same: Integers) -> Finding:
        """See `DriftTest`."""
        error = self._confidence.errors(rows, cells, frames, same)
        value = np.clip(0.5 + error / (2 * WIDEST), 0, 1)
        now = self._places[rows]
        self._insert(now, value)
        now["seen"] += 1
        alarm = np.zeros(len(rows), np.bool_)
        due = np.flatnonzero(now["seen"] % self.EVERY == 0)
        if len(due):
            part = now[due]
            part["statistic"] = self._ratio(part)
            alarm[due] = part["statistic"] > 1
            self._shrink(part)
            now[due] = part
        self._places[rows] = now
        return Finding(now["statistic"].astype(np.float64), np.ones(len(rows)), alarm)

    def _insert(self, now: NDArray[np.void], value: Floats) -> None:
        """Put a value in front; where a size has too many buckets, its two oldest become one of the next size."""
        fresh, fresh_square = value, value * value
        rows = np.arange(len(now))
        for size in range(self.SIZES):
            for name, what in (("sum", fresh), ("square", fresh_square)):
                kept = now[name][rows, size, :-1].copy()
                now[name][rows, size, 1:], now[name][rows, size, 0] = kept, what
            now["used"][rows, size] += 1
            over = now["used"][rows, size] > self.BUCKETS
            if not over.any():
                return
            rows = rows[over]
            fresh, fresh_square = (now[name][rows, size, -2:].sum(axis=1) for name in ("sum", "square"))
            now["sum"][rows, size, -2:] = now["square"][rows, size, -2:] = 0
            now["used"][rows, size] -= 2

    def _ratio(self, part: NDArray[np.void]) -> Floats:
        """Largest difference over its cut-off, (n,)."""
        spots = np.arange(self.BUCKETS + 1)
        used = (spots < part["used"][:, :, None]).reshape(len(part), -1)
        n = np.cumsum(used * self._size, axis=1)
        total = np.cumsum(part["sum"].reshape(len(part), -1), axis=1, dtype=np.float64)
        squares = part["square"].reshape(len(part), -1).sum(axis=1, dtype=np.float64)
        whole, everything = n[:, -1:], total[:, -1:]
        variance = np.maximum(squares[:, None] / whole - (everything / whole) ** 2, 0)
        older: Floats = whole - n
        possible = used & (n >= self.LEAST) & (older >= self.LEAST)
        with np.errstate(divide="ignore", invalid="ignore"):
            apart = np.abs(total / n - (everything - total) / older)
            harmonic = 1 / (1 / (n - self.LEAST / 2) + 1 / (older - self.LEAST / 2))
            rarity = np.log(2 * np.log(np.maximum(whole, 3)) / self._delta)
            cut = np.sqrt(2 / harmonic * variance * rarity) + 2 / (3 * harmonic) * rarity
            return np.asarray(np.where(possible, apart / cut, 0).max(axis=1))

    def _shrink(self, part: NDArray[np.void]) -> None:
        """Drop the oldest bucket of every window that has to be cut, until none has."""
        rows = np.flatnonzero(part["statistic"] > 1)
        while len(rows):
            some = part[rows]
            oldest = self.SIZES - 1 - (some["used"][:, ::-1] > 0).argmax(axis=1)
            last = some["used"][np.arange(len(some)), oldest] - 1
            some["sum"][np.arange(len(some)), oldest, last] = 0
            some["square"][np.arange(len(some)), oldest, last] = 0
            some["used"][np.arange(len(some)), oldest] -= 1
            part[rows] = some
            rows = rows[self._ratio(some) > 1]

    def state(self, row: int) -> bytes:
        """See `DriftTest`."""
        return bytes(self._places[row].tobytes()) + self._confidence.dispersion.state(row).tobytes()

    def restore(self, row: int, memory: bytes) -> None:
        """See `DriftTest`."""
        size = self._places.itemsize
        if len(memory) != size + 16:
            raise BadInput(f"drift tests: {len(memory)} bytes of memory, ADWIN has {size + 16}")
        self._places[row] = np.frombuffer(memory[:size], self._places.dtype)[0]
        self._confidence.dispersion.restore(row, np.frombuffer(memory[size:], np.float64))


def _check(level: float, block: int) -> None:
    if not 0 < level <= 0.5 or block < 1:
        raise BadInput(f"drift tests: a level of {level} and blocks of {block} must be in (0, 0.5] and at least 1")


def _numbers(memory: bytes, count: int) -> Floats:
    if len(memory) != 8 * count:
        raise BadInput(f"drift tests: {len(memory)} bytes of memory, must be {8 * count}")
    return np.frombuffer(memory, np.float64)
