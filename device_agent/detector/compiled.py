"""`evidence.weigh`, compiled by numba where it is installed: the same decisions, several times faster."""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from device_agent.detector.evalue import Floats
from device_agent.detector.evidence import Evidence, Reports, Rule
from device_agent.detector.packed import NO_PHI, OFFSET, SHIFT, STEPS, UNKNOWN, Codes, evidence, rates, repeats
from device_agent.detector.streams import BETS
from device_agent.detector.table import ReferenceTable, Rows

Weigh = Callable[[Codes, ReferenceTable, Rows, Reports, Rule], Evidence]
_TYPES = (
    "void(uint16[:,::1], int64[::1], int64[:,::1], float64[::1], float64[::1], float64[::1], float64[:,::1], "
    "float64[::1], int32[::1], uint16[:,:], uint16[:,:], uint8[:,:], int64[::1], int64[::1], int64[::1], boolean[::1], "
    "float64[::1], float64[::1], float64[::1], float64[:,::1], float64[::1], float64[::1], float64[::1], "
    "float64[:,::1], float64[::1], int64[::1])"
)


@cache
def compiled_weigh(folder: Path | None = None) -> Weigh | None:
    """`evidence.weigh`, compiled; None without numba.

    Args:
        folder: where the compiled code is kept for the next start (by default the user's cache folder); where it cannot
            be written, every start compiles anew, which takes seconds.
    """
    try:
        numba = importlib.import_module("numba")
    except ImportError:
        return None
    loops = _compile(numba, folder or _cache_folder())

    def weigh(words: Codes, normal: ReferenceTable, rows: Rows, reports: Reports, rule: Rule) -> Evidence:
        streams, n = rule.streams, len(rows)
        log_e, score, top = np.empty((n, len(streams.names))), np.empty(n), np.empty(n, np.int64)
        m_peers = np.empty((0, 0)) if reports.m_peers is None else np.ascontiguousarray(reports.m_peers, np.float64)
        frames, same = (np.ascontiguousarray(part, np.float64) for part in (reports.frames, reports.same))
        phi, dither = (np.ascontiguousarray(part, np.float64) for part in (reports.phi, reports.dither))
        loops(
            *(words, np.ascontiguousarray(rows, np.int64), np.ascontiguousarray(reports.counts, np.int64)),
            *(frames, same, (phi - 1) / (phi + 1), m_peers, dither),
            *normal.columns(),
            *streams.readers,
            *(streams.runs, rule.alone, rule.peers, streams.direction.astype(np.float64), np.sqrt(streams.lifts)),
            *(evidence(), rates(), repeats()),
            *(log_e, score, top),
        )
        return Evidence(log_e, score, top)

    return weigh


def _compile(numba: Any, folder: Path) -> Any:
    """The compiled loops, kept in `folder` if that can be written."""
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(folder)
    try:
        return numba.njit(_TYPES, cache=True, nogil=True, error_model="numpy")(_loops)
    except (OSError, RuntimeError):
        return numba.njit(_TYPES, nogil=True, error_model="numpy")(_loops)
    finally:
        numba.config.CACHE_DIR = before


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lineside" / "numba"


def _loops(  # type: ignore[no-untyped-def]
    words, rows, counts, frames, same, rho, m_peers, dither,
    which, p0, bound, phi,
    begins, readers, of, runs, alone, peers, direction, roots,
    powers, rates, repeats,
    log_e, score, top,
):  # fmt: skip
    """`evidence.weigh` device by device; see there. `readers` between `begins` of a cell are what is counted of it."""
    count, sums = len(runs), len(runs) * BETS
    seen, stakes, prices = np.zeros(of.max() + 1), np.empty(BETS), np.empty(BETS)
    for i in range(len(rows)):
        own, u, k = words[rows[i]], dither[i], which[rows[i]]
        up_bits = np.int32(u * (1 << SHIFT))
        changes = max(frames[i] - 1 - same[i], 0.0)
        seen[:] = 0
        for cell in range(counts.shape[1]):
            if counts[i, cell] > 0:
                for at in range(begins[cell], begins[cell + 1]):
                    reader = readers[at]
                    seen[abs(reader) - 1] += counts[i, cell] if reader > 0 else 1
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
            n, x = frames[i], seen[of[s]]
            if runs[s]:
                n, x = changes, min(x, changes)
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
                total = 0
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
