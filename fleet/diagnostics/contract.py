"""The seam of the drift tests: what a test is given, and what it says."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from fleet.diagnostics.normal import Floats, Integers, Normal, Rows

LEVEL = 1 / 720
"""Chance of a false alarm in an hour that a test is set to by default: one in a device-month, where its assumptions
hold."""
BLOCK = 60


class Finding(NamedTuple):
    """What a test says after a report, (n,) each: its statistic, nan before there is one; what it must be over to
    alarm; and whether it is."""

    statistic: Floats
    threshold: Floats
    alarm: NDArray[np.bool_]


class DriftTest(Protocol):
    """A test of many devices of one model; a row is a device. A factory under `lineside.drift_tests` is called with
    (normal, level=..., block=...)."""

    def update(self, rows: Rows, cells: Integers, frames: Integers, same: Integers) -> Finding:
        """Take in one report of each of `rows`, which do not repeat: cells (n, classes * 24), frames and same-cell
        pairs (n,)."""
        ...

    def grow(self, normal: Normal) -> None:
        """Add a device for each row of `normal`."""
        ...

    def reset(self, rows: Rows) -> None:
        """Start devices from nothing."""
        ...

    def state(self, row: int) -> bytes:
        """Memory of one device, of a fixed size."""
        ...

    def restore(self, row: int, memory: bytes) -> None:
        """Take up the memory that `state` gave.

        Raises:
            BadInput: memory of another size.
        """
        ...
