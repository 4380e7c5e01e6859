"""One window of bets: what a report adds to the evidence of every stream and bet. `compiled` does it faster."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from device_agent.detector.evalue import Floats, independence, tilt
from device_agent.detector.packed import STEPS, UNKNOWN, Codes, evidence, pack_sum, unpack_sum
from device_agent.detector.streams import Integers, StreamSet
from device_agent.detector.table import ReferenceTable, Rows


class Reports(NamedTuple):
    """One report of each of n devices: events `x` (n, streams) out of `trials`; `phi` (n,) learnt of the device, for
    streams whose reference knows none; `m_peers` (n, streams), nan without peers, or None; `dither` (n,), see `packed`.
    """

    x: Floats
    trials: Floats
    phi: Floats
    m_peers: Floats | None
    dither: Floats


class Rule(NamedTuple):
    """The streams of a model, and the harmless change of a rate: factors on the odds of the bound (streams,), alone and
    with peers; over 1 for a stream upwards, under 1 downwards."""

    streams: StreamSet
    alone: Floats
    peers: Floats

    @classmethod
    def of(cls, streams: StreamSet, tolerance: float, tolerance_peers: float) -> Rule:
        """For a tolerance r >= 1: r upwards, 1 / r downwards."""
        alone, peers = (np.where(streams.direction > 0, r, 1 / r) for r in (tolerance, tolerance_peers))
        return cls(streams, alone, peers)


class Evidence(NamedTuple):
    """Natural logs of the e-values of each stream (n, streams) and of the device (n,), its strongest stream (n,)."""

    log_e: Floats
    score: Floats
    top: NDArray[np.int64]


class Parts(NamedTuple):
    """Where in a device's words of 16 bits its numbers are: `w` (streams * bets), the sums of `x` and of what was
    `expected` and the windows `since` W was 0 last, and the sum that shows whether a level may clear, (streams,) each.
    """

    w: slice
    x: slice
    expected: slice
    since: slice
    calm: slice

    @classmethod
    def of(cls, streams: StreamSet) -> Parts:
        """Those of a model."""
        count, bets = streams.lifts.shape
        ends = [count * (bets + part) for part in range(5)]
        return cls(slice(0, ends[0]), *(slice(ends[part], ends[part + 1]) for part in range(4)))


def weigh(words: Codes, normal: ReferenceTable, rows: Rows, reports: Reports, rule: Rule) -> Evidence:
    """Bring the words of some devices up to date, and say what they come to.

    W <- max(0, W + theta x - n kappa). A stream at 0 whose rate is on the quiet side of the null's stays there, as no
    bet gains by it: it costs nothing.

    Args:
        words: (devices, words) of `Parts`, changed in place.
        normal: references of all devices.
        rows: (n,) no device twice.
        reports: of these devices.
        rule: of the model.
    """
    streams, m_peers = rule.streams, reports.m_peers
    parts, (count, bets) = Parts.of(streams), streams.lifts.shape
    x, trials = reports.x, reports.trials
    own = normal.take(rows)
    alone = np.isnan(m_peers) if m_peers is not None else np.True_
    multiplier = np.where(alone, 1.0, m_peers if m_peers is not None else 1.0)
    near = np.clip(own.bound * multiplier, 1e-7, 0.98)
    odds = near / (1 - near) * np.where(alone, rule.alone, rule.peers)
    rate = odds / (1 + odds)
    rho = independence(np.where(np.isnan(own.phi), reports.phi[:, None], own.phi))
    now = words[rows]
    w = now[:, parts.w].reshape(len(rows), count, bets)
    unknown = np.isnan(rate)
    w[unknown] = 0
    moves = (x - trials * rate) * streams.direction > 0
    at, of = np.nonzero((moves | w.any(axis=2)) & ~unknown)
    theta, kappa = tilt(rate[at, of][:, None], rho[at, of][:, None], streams.lifts[of])
    step = theta * x[at, of][:, None] - kappa * trials[at, of][:, None]
    dither = reports.dither[at]
    moved = np.clip(np.floor(w[at, of] + step * STEPS + dither[:, None]), 0, UNKNOWN).astype(np.uint16)
    w[at, of] = moved
    live = moved.any(axis=1)
    since = now[:, parts.since]
    since[at, of] = np.where(live, np.minimum(since[at, of], UNKNOWN - 1) + 1, 0)
    for part, more in ((parts.x, x), (parts.expected, own.p0 * multiplier * trials)):
        sums = now[:, part]
        sums[at, of] = np.where(live, pack_sum(unpack_sum(sums[at, of]) + more[at, of], dither), 0)
    now[:, parts.w] = w.reshape(len(rows), -1)
    words[rows] = now
    each = evidence()[w].sum(axis=2) / bets
    return Evidence(np.log(each), np.log(each.sum(axis=1) / count), each.argmax(axis=1))


Tally = Callable[[StreamSet, Integers, Integers, Integers], tuple[Floats, Floats]]
Weigh = Callable[[Codes, ReferenceTable, Rows, Reports, Rule], Evidence]


class Steps(NamedTuple):
    """What the detector does with every report: `StreamSet.tally`, and `weigh`."""

    tally: Tally
    weigh: Weigh


PLAIN = Steps(StreamSet.tally, weigh)
