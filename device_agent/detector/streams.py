"""What is counted in the class x confidence histogram, and in which direction it may not move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from device_agent.contract.histogram import BINS

Integers = NDArray[np.integer]
Floats = NDArray[np.float64]
LIFTS = {
    ("rare", 1): (1.5, 3.0, 8.0),
    ("rare", -1): (0.7, 0.4, 0.15),
    ("bulk", 1): (1.2, 1.6, 2.5),
    ("bulk", -1): (1 / 1.2, 1 / 1.6, 1 / 2.5),
}
BETS = 3
LOW_SHARE, TAIL_SHARE, BULK_SHARE = 0.01, 0.05, 0.40
RUNS = "/runs"
EXACT = 1 << 24
"""Counts below this are exact in float32."""
_Stream = tuple[str, NDArray[np.bool_], int, str]
"""Name, cells, direction and kind."""


@dataclass(frozen=True)
class StreamSet:
    """The streams of one model.

    A frame stream counts frames in its cells, out of all frames. A run stream (name ending in "/runs") counts cells
    with any frame in them, out of the changes from cell to cell: with parts that stay in view for seconds, a rare cell
    with frames is about one part however long it stayed, so the length of its stay is no noise. Where frames are
    independent and many, run streams saturate and the frame streams decide.

    masks: (streams, classes * 24) bool, the cells of each stream; names: "low+", "def+/runs", "def-:scratch", ...;
    direction: (streams,) +1 or -1; kind: "rare" or "bulk"; lifts: (streams, 3) odds ratios that are bet on; runs:
    (streams,) bool.
    """

    masks: NDArray[np.bool_]
    names: tuple[str, ...]
    direction: NDArray[np.int8]
    kind: tuple[str, ...]
    lifts: Floats
    runs: NDArray[np.bool_]

    def tally(self, counts: Integers, frames: Integers, same: Integers) -> tuple[Floats, Floats]:
        """Events and trials, both (..., streams).

        Args:
            counts: (..., classes * 24) frames in each cell.
            frames, same: (...) frames, and pairs of consecutive frames in one cell.
        """
        whole, used, of = self._distinct
        held: NDArray[Any] = np.asarray(counts)
        n = np.asarray(frames, np.float64)[..., None]
        changes = np.maximum(n - 1 - np.asarray(same)[..., None], 0)
        cells: NDArray[Any] = held.astype(np.float32 if n.max(initial=0) < EXACT else np.float64)
        events = (cells @ whole, np.minimum((held > 0).astype(np.float32) @ used, changes))
        return np.take(np.concatenate(events, axis=-1), of, axis=-1).astype(np.float64), np.where(self.runs, changes, n)

    @cached_property
    def readers(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """The same cell by cell: begin of each cell's part (cells + 1,) of a list of what is counted of it, its number
        from 1 on, negative for runs; and that number less 1 of each stream."""
        whole, used, of = self._distinct
        read = np.concatenate([whole, used], axis=1) > 0
        sign = np.where(np.arange(read.shape[1]) < whole.shape[1], 1, -1)
        number = np.nonzero(read)[1]
        begins = np.concatenate([[0], np.cumsum(read.sum(axis=1))])
        return begins.astype(np.int64), ((number + 1) * sign[number]).astype(np.int64), of.astype(np.int64)

    @cached_property
    def _distinct(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.intp]]:
        """Masks (cells, ...) of what is counted in frames and in runs, each once, and which of them a stream reads: up
        and down read the same."""
        asked = np.column_stack([self.runs, self.masks])
        kept, of = np.unique(asked, axis=0, return_inverse=True)
        whole, used = (kept[kept[:, 0] == runs, 1:].T.astype(np.float32) for runs in (False, True))
        return np.ascontiguousarray(whole), np.ascontiguousarray(used), of.ravel()


def streams(roles: Sequence[str], p0_cells: NDArray[np.floating], names: Sequence[str] | None = None) -> StreamSet:
    """One-sided streams of a model: low+, tail+, bulk+/-, def+/-; with several defect classes also def+/- of each.

    low, tail, bulk: confidence below the edge nearest the reference's 1 %, 5 % and 40 % quantile; def: frames called a
    defect. low and def come as run streams too. Without a good class there is no plain def stream.

    Args:
        roles: "good" or "defect" for each class.
        p0_cells: (classes, 24) reference cell shares, >= 0; they need not add up to 1.
        names: class names for the streams' names; indices if left out.

    >>> cells = np.zeros((2, 24))
    >>> cells[0, 11:15], cells[1, 10], cells[0, 4], cells[0, 6] = 0.235, 0.01, 0.01, 0.04
    >>> chosen = streams(["good", "defect"], cells)
    >>> chosen.names
    ('low+', 'low+/runs', 'tail+', 'bulk+', 'bulk-', 'def+', 'def+/runs', 'def-', 'def-/runs')
    >>> chosen.masks.sum(1).tolist()
    [12, 12, 20, 24, 24, 24, 24, 24, 24]

    Raises:
        BadInput: cells that do not fit the roles, or that hold nothing.
    """
    cells = np.asarray(p0_cells, np.float64)
    if cells.shape != (len(roles), BINS) or not np.isfinite(cells).all() or cells.sum() <= 0 or cells.min() < 0:
        raise BadInput(f"detector: cells of shape {cells.shape} for {len(roles)} classes must be {BINS} shares each")
    labels = list(names) if names is not None else [str(index) for index in range(len(roles))]
    chosen = _of_confidence(cells) + _of_defects(roles, labels)
    return StreamSet(
        masks=np.array([mask for _, mask, _, _ in chosen]),
        names=tuple(name for name, _, _, _ in chosen),
        direction=np.array([step for _, _, step, _ in chosen], np.int8),
        kind=tuple(kind for _, _, _, kind in chosen),
        lifts=np.array([LIFTS[kind, step] for _, _, step, kind in chosen]),
        runs=np.array([name.endswith(RUNS) for name, _, _, _ in chosen]),
    )


def _of_confidence(cells: Floats) -> list[_Stream]:
    """low, tail and bulk, from the reference's cell shares (classes, 24)."""
    below = np.cumsum(cells.sum(axis=0) / cells.sum())[:-1]
    low, tail = (_edge(np.abs(np.log(np.maximum(below, 1e-6) / share))) for share in (LOW_SHARE, TAIL_SHARE))
    bulk = _edge(np.abs(below - BULK_SHARE))
    bins = np.tile(np.arange(BINS), len(cells))
    return [
        ("low+", bins <= low, 1, "rare"),
        (f"low+{RUNS}", bins <= low, 1, "rare"),
        ("tail+", bins <= tail, 1, "rare"),
        ("bulk+", bins <= bulk, 1, "bulk"),
        ("bulk-", bins <= bulk, -1, "bulk"),
    ]


def _of_defects(roles: Sequence[str], labels: list[str]) -> list[_Stream]:
    """def, and def of each class where there are several."""
    owner = np.repeat(np.arange(len(roles)), BINS)
    defects = [index for index, role in enumerate(roles) if role == "defect"]
    both = (("+", 1), ("-", -1))
    chosen: list[_Stream] = []
    if 0 < len(defects) < len(roles):
        called = np.isin(owner, defects)
        chosen += [(f"def{sign}{runs}", called, step, "rare") for sign, step in both for runs in ("", RUNS)]
    if len(defects) > 1:
        chosen += [
            (f"def{sign}:{labels[index]}", owner == index, step, "rare") for index in defects for sign, step in both
        ]
    return chosen


def _edge(distance: Floats) -> int:
    """Last bin below the nearest edge; of equally near ones the highest, which misses no unseen cell."""
    return int(len(distance) - 1 - distance[::-1].argmin())
