"""What lines showed: counts of the stored reports, by device and day, and how many independent frames they are."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.engine import Connection

from device_agent.contract.histogram import BINS
from device_agent.contract.report import read_report
from device_agent.detector.evalue import phi_of_pairs
from fleet.schema import REPORT

DAY_MS = 86_400_000


@dataclass
class Seen:
    """Counts (classes, 24) int64 of one device and model, pairs of consecutive frames and those of them that stayed in
    one cell."""

    counts: NDArray[np.int64]
    same: int = 0
    pairs: int = 0

    @property
    def frames(self) -> int:
        """Number of frames."""
        return int(self.counts.sum())

    @property
    def independent(self) -> float:
        """How many frames they are worth: a part that stays in view is one part, however often it is looked at.

        >>> still, moving = np.zeros((2, 24), int), np.zeros((2, 24), int)
        >>> still[0, 10], moving[0, 10] = 600, 60
        >>> moving[0, 11] = 540
        >>> round(Seen(still, same=599, pairs=599).independent, 1), round(Seen(moving, 492, 599).independent)
        (6.1, 361)
        """
        if not self.frames:
            return 0.0
        shares = self.counts / self.frames
        agree = np.array((shares**2).sum())
        return self.frames / float(phi_of_pairs(np.array(float(self.same)), np.array(float(self.pairs)), agree))

    def add(self, other: Seen) -> None:
        """Count another one too."""
        self.counts = self.counts + other.counts
        self.same, self.pairs = self.same + other.same, self.pairs + other.pairs


def read_days(
    tx: Connection, model: str, classes: int, *, since_ms: int, until_ms: int, devices: Collection[str] | None = None
) -> dict[tuple[str, int], Seen]:
    """What devices saw with a model, by device and day (days since 1970, UTC); those named, or all. Reports of another
    number of classes are left out."""
    asked = select(REPORT.c.device, REPORT.c.at_ms, REPORT.c.payload).where(
        REPORT.c.model == model, REPORT.c.at_ms >= since_ms, REPORT.c.at_ms < until_ms
    )
    if devices is not None and len(devices) <= 500:
        asked = asked.where(REPORT.c.device.in_(sorted(devices)))
    found: dict[tuple[str, int], Seen] = {}
    for row in tx.execute(asked.execution_options(yield_per=2000)):
        if devices is not None and row.device not in devices:
            continue
        report = read_report(row.payload)
        if report.histogram.classes != classes or not report.frames:
            continue
        held = found.setdefault((row.device, row.at_ms // DAY_MS), Seen(np.zeros((classes, BINS), np.int64)))
        cells = report.histogram.cells
        held.counts.reshape(-1)[cells[::2]] += cells[1::2]
        held.same, held.pairs = held.same + report.same, held.pairs + report.frames - 1
    return found


def total(parts: Iterable[Seen], classes: int) -> tuple[NDArray[np.int64], float]:
    """Counts (classes, 24) of several, and their independent frames: each device's own, added."""
    counts, independent = np.zeros((classes, BINS), np.int64), 0.0
    for part in parts:
        counts, independent = counts + part.counts, independent + part.independent
    return counts, independent
