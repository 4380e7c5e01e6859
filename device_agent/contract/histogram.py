"""The confidence histogram: predicted class x log-odds bin, integer counts that add up.

Bins are fixed for all devices and models: 24 bins over the log-odds of the top-1 probability, the inner edges from
-1 to +10 in steps of 0.5, the first and last bin open. Uniform bins over the probability would put nearly every frame
of a healthy line into one bin.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput

BINS_ID = "logodds24-v1"
EDGES: NDArray[np.float64] = np.linspace(-1.0, 10.0, 23)
BINS = len(EDGES) + 1
MOST_CLASSES = 65_536


def log_odds(logits: NDArray[np.float32], temperature: float = 1.0) -> NDArray[np.float64]:
    """Log-odds of the top-1 probability, natural units, one for each row.

    Args:
        logits: (n, classes) float, any range.
        temperature: divides the logits first, > 0 (Guo et al. 2017).

    >>> log_odds(np.array([[2.0, 0.0], [0.0, 0.0]])).tolist()
    [2.0, 0.0]
    """
    scaled = np.asarray(logits, np.float64) / temperature
    top = scaled.argmax(axis=1)
    rows = np.arange(len(scaled))
    best = scaled[rows, top].copy()
    scaled[rows, top] = -np.inf
    peak = scaled.max(axis=1)
    rest = peak + np.log(np.exp(scaled - peak[:, None]).sum(axis=1))
    return np.asarray(best - rest, dtype=np.float64)


def bin_of(value: NDArray[np.float64] | float) -> NDArray[np.intp]:
    """Bin of a log-odds value, 0 to 23; a value on an edge belongs to the bin above it.

    >>> bin_of(np.array([-3.0, -1.0, 0.2, 10.0])).tolist()
    [0, 1, 3, 23]
    """
    return np.searchsorted(EDGES, value, side="right")


class ConfidenceHistogram(msgspec.Struct, frozen=True, array_like=True):
    """Sparse counts of one model: `cells` is a flat list class * 24 + bin, count, class * 24 + bin, count, ...

    >>> histogram = ConfidenceHistogram.of(np.eye(2, 24, dtype=int))
    >>> histogram.cells, histogram.total
    ([0, 1, 25, 1], 2)
    """

    classes: int
    cells: list[int]
    bins_id: Annotated[str, msgspec.Meta(max_length=32)] = BINS_ID

    @classmethod
    def of(cls, counts: NDArray[np.integer]) -> ConfidenceHistogram:
        """From dense counts (classes, 24), integers >= 0."""
        return cls(classes=len(counts), cells=sparse_counts(counts))

    @property
    def total(self) -> int:
        """Number of frames counted."""
        return sum(self.cells[1::2])

    def dense(self) -> NDArray[np.int64]:
        """Counts (classes, 24) int64, >= 0.

        Raises:
            BadInput: other bins, cells out of range or out of order, counts below 1.
        """
        return dense_cells(self.cells, self.classes, self.bins_id)

    def check(self) -> None:
        """Refuse what `dense` refuses, without building the dense form."""
        check_cells(self.cells, self.classes, self.bins_id)


def dense_cells(
    cells: list[int], classes: int, bins_id: str = BINS_ID, *, most_classes: int = MOST_CLASSES
) -> NDArray[np.int64]:
    """Dense counts (classes, 24) int64 of a flat sparse list; see `ConfidenceHistogram`.

    Raises:
        BadInput: other bins, cells out of range or out of order, counts below 1.
    """
    where, counts = check_cells(cells, classes, bins_id, most_classes=most_classes)
    out = np.zeros(classes * BINS, np.int64)
    out[where] = counts
    return out.reshape(classes, BINS)


def check_cells(
    cells: list[int], classes: int, bins_id: str = BINS_ID, *, most_classes: int = MOST_CLASSES
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cells and counts, both int64, of a flat sparse list.

    Raises:
        BadInput: other bins, cells out of range or out of order, counts below 1.
    """
    if bins_id != BINS_ID:
        raise BadInput(f"histogram: bins {bins_id!r} cannot be read, only {BINS_ID!r}")
    if not 1 <= classes <= most_classes:
        raise BadInput(f"histogram: {classes} rows of 24 bins, must be 1 to {most_classes}")
    return check_pairs(cells, classes * BINS, "histogram")


def check_pairs(flat: list[int], size: int, what: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cells and counts, both int64, of a flat list cell, count, ... over `size` cells; `what` is it for an error.

    Raises:
        BadInput: cells out of range or out of order, counts below 1.
    """
    if len(flat) % 2:
        raise BadInput(f"{what}: {len(flat)} numbers are not pairs of cell and count")
    try:
        where, counts = np.array(flat[::2], np.int64), np.array(flat[1::2], np.int64)
    except OverflowError:
        raise BadInput(f"{what}: a number is over 63 bits") from None
    if len(where):
        if where.min() < 0 or where.max() >= size or (np.diff(where) <= 0).any():
            raise BadInput(f"{what}: cells must grow from 0 to {size - 1}")
        if counts.min() < 1 or counts.max() > 2**40:
            raise BadInput(f"{what}: counts must be 1 to 2^40")
    return where, counts


def sparse_counts(counts: NDArray[np.integer]) -> list[int]:
    """Dense counts of any shape as the flat list cell, count, ... of those that are not 0.

    >>> sparse_counts(np.array([[0, 3], [1, 0]]))
    [1, 3, 2, 1]
    """
    flat = np.asarray(counts).ravel()
    used = np.flatnonzero(flat)
    pairs: list[int] = np.column_stack([used, flat[used]]).ravel().tolist()
    return pairs
