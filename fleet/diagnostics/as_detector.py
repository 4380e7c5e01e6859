"""A textbook test in the place of the detector, for those who must: it decides who pages, the rest is information."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from device_agent.contract.errors import BadInput
from device_agent.detector import Detector, Reference, StreamSet, Verdicts
from device_agent.detector.evalue import Floats
from fleet.diagnostics.contract import DriftTest
from fleet.diagnostics.normal import Integers, Normal, Rows

MOST = 2.0


class TextbookDetector(Detector):
    """The detector of all devices of one model, with the levels of a textbook test.

    The score is the page threshold times statistic / threshold of the test, at most twice the page. A page is an alarm
    of the test and stands while it lasts; there is no warning of its own. Streams, ratios, onset and frozen are the
    detector's, to say what moved.

    Args:
        streams, reference: as for `Detector`.
        normal: one row a device, for the test.
        make: the test of a `Normal`, see `choice.make_test`.
        page, warn: scores.
    """

    def __init__(
        self,
        streams: StreamSet,
        reference: Reference,
        normal: Normal,
        make: Callable[[Normal], DriftTest],
        *,
        page: float,
        warn: float | None = None,
    ) -> None:
        super().__init__(streams, reference, page=page, warn=warn)
        self._first = normal.take(np.zeros(1, np.intp))
        self._test = make(normal.take(np.zeros(len(reference), np.intp)) if len(normal) == 1 else normal)

    def grow(self, reference: Reference) -> None:
        """Add a device for each row of `reference`; the test compares it with its first normal."""
        super().grow(reference)
        self._test.grow(self._first.take(np.zeros(len(reference), np.intp)))

    def reset(self, rows: Rows, reference: Reference | None = None) -> None:
        """Start from nothing; the test's own normal stays."""
        super().reset(rows, reference)
        self._test.reset(rows)

    def state(self, row: int) -> bytes:
        """Memory of one device, the detector's and then the test's."""
        return super().state(row) + self._test.state(row)

    def restore(self, row: int, memory: bytes) -> None:
        """Take up the memory that `state` gave.

        Raises:
            BadInput: memory of another layout, model or test.
        """
        size = len(super().state(row))
        super().restore(row, memory[:size])
        self._test.restore(row, memory[size:])

    def update(
        self,
        rows: Rows,
        counts: Integers,
        frames: Integers,
        same: Integers,
        identical: Integers,
        m_peers: Floats | None = None,
    ) -> Verdicts:
        """Take in reports, see `Detector.update`; peers have no say in a textbook test.

        Raises:
            BadInput: a row that comes twice.
        """
        if len(np.unique(rows)) < len(rows):
            raise BadInput("drift tests: one report of each device at a time")
        said = super().update(rows, counts, frames, same, identical, m_peers)
        found = self._test.update(rows, counts, frames, same)
        with np.errstate(invalid="ignore"):
            share = np.nan_to_num(found.statistic / found.threshold)
        page = found.alarm & self.reference.armed[rows]
        score = self.page * np.where(page, np.clip(share, 1, MOST), np.minimum(share, 0.99))
        return said._replace(score=score, warn=page, page=page)
