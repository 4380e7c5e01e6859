"""How alike the frames of a camera are: how far from independent, and whether it shows one picture for ever."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from device_agent.detector.evalue import Floats, phi_of_pairs
from device_agent.detector.packed import dither, pack_sum, unpack_sum
from device_agent.detector.streams import Integers
from device_agent.detector.table import ReferenceTable, Rows

LEARN_PAIRS = 1e6
SINGLE = np.dtype(
    [("windows", np.uint32)]
    + [(name, np.uint16) for name in ("run_same", "pairs", "changes", "block")]
    + [("run_identical", np.uint8), ("level", np.uint8)]
)
"""Of a device: windows seen, run of same-cell pairs, pairs and those of them that changed cell, windows of the block
that may clear its level, reports of bit-equal frames in a row, and its level."""
WHOLE = np.dtype((np.void, SINGLE.itemsize))
"""The same without names: copied several times faster."""


def learnt_phi(now: NDArray[np.void], agree: Floats) -> Floats:
    """Over-dispersion (n,) that the pairs of some devices show.

    Args:
        now: (n,) of `SINGLE`.
        agree: (n,), see `Reference`.
    """
    pairs = unpack_sum(now["pairs"])
    return phi_of_pairs(np.maximum(pairs - unpack_sum(now["changes"]), 0), pairs, agree)


def learn_pairs(now: NDArray[np.void], frames: Floats, same: Integers, calm: NDArray[np.bool_]) -> None:
    """Count the pairs of reports, of devices that are `calm` (n,), until a million are known; `now` is changed."""
    pairs, chance = _pairs(frames), dither(now["windows"])
    seen = unpack_sum(now["pairs"])
    learn = calm & (seen < LEARN_PAIRS)
    if learn.any():
        changes = unpack_sum(now["changes"]) + np.maximum(pairs - same, 0)
        now["pairs"] = np.where(learn, pack_sum(seen + pairs, chance), now["pairs"])
        now["changes"] = np.where(learn, pack_sum(changes, chance), now["changes"])


def is_frozen(
    now: NDArray[np.void],
    normal: ReferenceTable,
    rows: Rows,
    frames: Floats,
    same: Integers,
    identical: Integers,
    *,
    windows: int,
    unlikely: float,
) -> NDArray[np.bool_]:
    """Whether cameras repeat themselves (n,); their runs of alike frames in `now` are brought up to date.

    Frozen: `windows` windows of bit-equal frames, or a run of same-cell pairs less likely than e^-`unlikely` that is
    also twice as long as any in the device's own history; without a history, only the bit-equal ones.
    """
    pairs = _pairs(frames)
    full = (same >= pairs) & (pairs > 0)
    run = unpack_sum(now["run_same"])
    if full.any() or run.any():
        run = np.where(full | (frames <= 0), run + np.where(full, pairs, 0), 0)
        now["run_same"] = pack_sum(run, dither(now["windows"]))
    equal = (identical >= pairs) & (pairs > 0)
    steps = np.minimum(now["run_identical"], 0xFE) + 1
    now["run_identical"] = np.where(equal, steps, np.where(frames > 0, 0, now["run_identical"]))
    usual, longest = (normal.column(name, rows) for name in ("same", "longest"))
    own = ~np.isnan(usual)  # against a bundle's baseline alone, a changed product in one cell would look frozen
    surprise = -run * np.log(np.clip(usual, 1e-6, 1 - 1e-7))
    stuck = own & (surprise > unlikely) & (run > 2 * longest)
    return np.asarray(stuck | (now["run_identical"] >= windows))


def _pairs(frames: Floats) -> Floats:
    return np.asarray(np.maximum(frames - 1, 1) * (frames > 0))
