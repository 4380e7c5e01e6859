"""The steps of `evidence`, compiled by numba where it is installed: the same decisions, several times faster."""

from __future__ import annotations

import importlib
import math
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from device_agent.detector.evalue import Floats, independence
from device_agent.detector.evidence import Evidence, Reports, Rule, Steps
from device_agent.detector.packed import NO_PHI, OFFSET, SHIFT, STEPS, UNKNOWN, Codes, evidence, rates, repeats
from device_agent.detector.streams import BETS, Integers, StreamSet
from device_agent.detector.table import ReferenceTable, Rows

_MANY, _ONE, _INDEX, _TRUTHS = "float64[:,::1]", "float64[::1]", "int64[::1]", "boolean[::1]"
_TALLY = f"void(int64[:,::1], {_ONE}, {_ONE}, {_INDEX}, {_INDEX}, {_INDEX}, {_TRUTHS}, {_MANY}, {_MANY})"
_WEIGH = (
    f"void(uint16[:,::1], {_INDEX}, {_MANY}, {_MANY}, {_ONE}, {_MANY}, {_ONE}, "
    f"int32[::1], uint16[:,:], uint16[:,:], uint8[:,:], {_ONE}, {_ONE}, {_ONE}, {_MANY}, "
    f"{_ONE}, {_ONE}, {_ONE}, {_MANY}, {_ONE}, {_INDEX})"
)


@cache
def compiled(folder: Path | None = None) -> Steps | None:
    """`evidence.PLAIN`, compiled; None without numba.

    Args:
        folder: where the compiled code is kept for the next start (by default the user's cache folder); where it cannot
            be written, every start compiles anew, which takes seconds.
    """
    try:
        numba = importlib.import_module("numba")
    except ImportError:
        return None
    folder = folder or _cache_folder()
    count, bet = _compile(numba, _TALLY, _count, folder), _compile(numba, _WEIGH, _bet, folder)

    def tally(streams: StreamSet, counts: Integers, frames: Integers, same: Integers) -> tuple[Floats, Floats]:
        x, trials = np.empty((2, len(counts), len(streams.names)))
        count(_rows(counts, np.int64), _rows(frames), _rows(same), *streams.readers, streams.runs, x, trials)
        return x, trials

    def weigh(words: Codes, normal: ReferenceTable, rows: Rows, reports: Reports, rule: Rule) -> Evidence:
        streams, shape = rule.streams, reports.x.shape
        found = Evidence(np.empty(shape), np.empty(shape[0]), np.empty(shape[0], np.int64))
        m_peers = np.empty((0, 0)) if reports.m_peers is None else reports.m_peers
        given = (reports.x, reports.trials, independence(reports.phi), m_peers, reports.dither)
        direction, roots = streams.direction.astype(np.float64), np.sqrt(streams.lifts)
        bet(
            *(words, _rows(rows, np.int64), *map(_rows, given)),
            *(*normal.columns(), rule.alone, rule.peers, direction, roots),
            *(evidence(), rates(), repeats(), *found),
        )
        return found

    return Steps(tally, weigh)


def _rows(values: Any, kind: type[np.number[Any]] = np.float64) -> Any:
    return np.ascontiguousarray(values, kind)


def _compile(numba: Any, types: str, loops: Any, folder: Path) -> Any:
    """Compiled loops, kept in `folder` if that can be written."""
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(folder)
    try:
        return numba.njit(types, cache=True, nogil=True, error_model="numpy")(loops)
    except (OSError, RuntimeError):
        return numba.njit(types, nogil=True, error_model="numpy")(loops)
    finally:
        numba.config.CACHE_DIR = before


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lineside" / "numba"


def _count(  # type: ignore[no-untyped-def]
    counts, frames, same, begins, readers, of, runs, x, trials
):  # fmt: skip
    """`StreamSet.tally`, by the cells that hold anything; `readers` from `begins` of a cell on are what is counted."""
    seen = np.empty(of.max() + 1)
    for i in range(len(counts)):
        changes = max(frames[i] - 1 - same[i], 0.0)
        seen[:] = 0
        for cell in range(counts.shape[1]):
            if counts[i, cell] > 0:
                for at in range(begins[cell], begins[cell + 1]):
                    reader = readers[at]
                    seen[abs(reader) - 1] += counts[i, cell] if reader > 0 else 1
        for s in range(len(of)):
            x[i, s] = min(seen[of[s]], changes) if runs[s] else seen[of[s]]
            trials[i, s] = changes if runs[s] else frames[i]


def _bet(  # type: ignore[no-untyped-def]
    words, rows, events, trials, rho, m_peers, dither,
    which, p0, bound, phi, alone, peers, direction, roots,
    powers, rates, repeats,
    log_e, score, top,
):  # fmt: skip
    """`evidence.weigh`, device by device; see there."""
    count, sums = len(direction), len(direction) * BETS
    stakes, prices = np.empty(BETS), np.empty(BETS)
    for i in range(len(rows)):
        own, u, k = words[rows[i]], dither[i], which[rows[i]]
        up_bits = np.int32(u * (1 << SHIFT))
        whole, most = 0.0, 1.0
        top[i] = 0
        for s in range(count):
            first = s * BETS
            near, slack, factor = rates[bound[k, s]], alone[s], 1.0
            if m_peers.shape[0] > 0 and not math.isnan(m_peers[i, s]):
                factor, slack = m_peers[i, s], peers[s]
                near = near * factor
            held = False
            for j in range(first, first + BETS):
                if math.isnan(near):
                    own[j] = 0
                held |= own[j] > 0
            log_e[i, s] = 0.0
            if math.isnan(near):
                whole += 1.0
                continue
            near = min(max(near, 1e-7), 0.98)
            x, n = events[i, s], trials[i, s]
            quiet = (x * (1 - near) - (n - x) * near * slack) * direction[s] <= 0
            if quiet and not held:
                whole += 1.0
                continue
            odds = near / (1 - near) * slack
            rate = odds / (1 + odds)
            keep = rho[i] if phi[k, s] == NO_PHI else repeats[phi[k, s]]
            fresh = (1 - keep) * rate
            stay = keep + fresh
            odd = 4 * stay * (1 - fresh)
            for j in range(BETS):
                up, down = fresh * roots[s, j], (1 - keep - fresh) / roots[s, j]
                gap = up - down
                grow = (gap + math.sqrt(gap * gap + odd)) / (2 * stay)
                stakes[j], prices[j] = grow, 1 + fresh * (roots[s, j] * grow - 1)
            live, each = False, 0.0
            for j in range(BETS):
                if quiet and own[first + j] == 0:
                    each += 1.0
                    continue
                step = 2 * math.log(stakes[j]) * x - math.log(prices[j]) * n
                moved = math.floor(own[first + j] + step * STEPS + u)
                w = 0 if moved < 0 else UNKNOWN if moved > UNKNOWN else int(moved)
                own[first + j] = w
                live |= w > 0
                each += powers[w]
            for part in range(2):
                at = sums + part * count + s
                total = np.int32(0)
                if live:
                    value = x if part == 0 else rates[p0[k, s]] * factor * n
                    if own[at] > 0:
                        value += np.int32((np.int32(own[at]) + OFFSET) << SHIFT).view(np.float32)
                    total = ((np.float32(value).view(np.int32) + up_bits) >> SHIFT) - OFFSET
                own[at] = 0 if total < 0 else UNKNOWN if total > UNKNOWN else total
            at = sums + 2 * count + s
            own[at] = min(own[at], UNKNOWN - 1) + 1 if live else 0
            log_e[i, s] = math.log(each / BETS) if live else 0.0
            whole += each / BETS
            if each / BETS > most:
                most, top[i] = each / BETS, s
        score[i] = math.log(whole / count)
