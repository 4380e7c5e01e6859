"""What the detector says of a device after a report: how sure, what, since when, and by how much."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from device_agent.detector.evalue import Floats, poisson_limits
from device_agent.detector.evidence import Evidence, Parts, Reports
from device_agent.detector.packed import Codes, unpack_sum
from device_agent.detector.table import ReferenceTable, Rows


class Verdicts(NamedTuple):
    """What the detector says after a report, one entry each.

    score: natural log of the device's e-value. log_e: (n, streams), the same of each stream. warn, page: level reached
    and not yet cleared (page implies warn). frozen: the camera repeats itself. window: number of windows the device has
    had, this one included. stream: index of the strongest stream, to which the rest belongs: onset, the window (counted
    from 1) in which its run of evidence began; ratio, ratio_low, ratio_high: rate since then over the expected one, and
    its 95 % interval (nan without frames); independent: number of independent frames since then.
    """

    score: Floats
    log_e: Floats
    warn: NDArray[np.bool_]
    page: NDArray[np.bool_]
    frozen: NDArray[np.bool_]
    window: NDArray[np.int64]
    stream: NDArray[np.intp]
    onset: NDArray[np.int64]
    ratio: Floats
    ratio_low: Floats
    ratio_high: Floats
    independent: Floats


def verdicts(
    words: Codes,
    parts: Parts,
    normal: ReferenceTable,
    rows: Rows,
    now: NDArray[np.void],
    reports: Reports,
    found: Evidence,
    frozen: NDArray[np.bool_],
) -> Verdicts:
    """Put the evidence of some devices into words.

    Args:
        words, parts: see `evidence`.
        normal: references of all devices.
        rows: (n,) devices.
        now: (n,) of `sameness.SINGLE`.
        reports, found: of these devices.
        frozen: (n,).
    """
    top, each = found.top, np.arange(len(now))
    events, expected = (unpack_sum(words[rows, part.start + top]) for part in (parts.x, parts.expected))
    since = words[rows, parts.since.start + top].astype(np.int64)
    windows = now["windows"].astype(np.int64)
    usual, phi = normal.one(rows, top)
    spread = np.where(np.isnan(phi), reports.phi, phi)
    if reports.m_peers is not None:
        usual = usual * np.nan_to_num(reports.m_peers[each, top], nan=1.0)
    low, high = poisson_limits(events / spread)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio, low, high = events / expected, low * spread / expected, high * spread / expected
        independent = np.where(expected > 0, expected / usual / spread, 0)
    none = expected <= 0
    ratio[none] = low[none] = high[none] = np.nan
    return Verdicts(
        score=found.score,
        log_e=found.log_e,
        warn=now["level"] >= 1,
        page=now["level"] >= 2,
        frozen=frozen,
        window=windows,
        stream=top,
        onset=windows - np.maximum(since, 1) + 1,
        ratio=ratio,
        ratio_low=low,
        ratio_high=high,
        independent=independent,
    )
