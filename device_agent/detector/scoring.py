"""Evidence of change, device by device: a mixture of one-sided e-CUSUMs over streams and bets, with memory in bytes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from device_agent.detector import compiled as numba_steps
from device_agent.detector.evalue import Floats, phi_of_pairs, poisson_limits, warn_threshold
from device_agent.detector.evidence import PLAIN, Evidence, Parts, Reports, Rule
from device_agent.detector.packed import UNKNOWN, dither, pack_signed, pack_sum, unpack_signed, unpack_sum
from device_agent.detector.reference import Reference
from device_agent.detector.streams import Integers, StreamSet
from device_agent.detector.table import ReferenceTable, Rows

LAYOUT = 2
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


class Detector:
    """Detector of all devices that run one model; a row is a device.

    For each stream s and bet j: W <- max(0, W + theta x - n kappa), with (theta, kappa) of `evalue.tilt` at the
    tolerated rate, whose odds are r times (up) or 1 / r times (down) those of the reference's bound times the peers' M.
    Score = ln mean over s and j of e^W: an average of e-detectors is one (Shin, Ramdas and Rinaldo 2023), so a healthy
    device reaches h at most once in e^h windows on average. Levels hold until each stream that still has evidence ran
    `clear_windows` windows at a rate under 1 + (r - 1) / 2 times its reference; then W starts from nothing.
    What is kept of a device is in few bytes (`packed`, `device_bytes`); W ends at 64.

    Args:
        streams: of the model.
        reference: one row for each device.
        page, warn: scores, see `threshold` and `warn_threshold`.
        tolerance, tolerance_peers: harmless change r of a rate, without and with peers.
        clear_windows: 6 hours of one-minute windows by default; windows without a frame do not count.
        frozen_windows: reports in a row with nothing but bit-equal frames that make a frozen camera.
        compiled: let numba, where it is installed, do the bets; the decisions are the same.
    """

    def __init__(
        self,
        streams: StreamSet,
        reference: Reference,
        *,
        page: float,
        warn: float | None = None,
        tolerance: float = 1.2,
        tolerance_peers: float = 1.15,
        clear_windows: int = 360,
        frozen_windows: int = 3,
        compiled: bool = False,
    ) -> None:
        self.streams = streams
        self.reference = ReferenceTable(reference)
        self.page = page
        self.warn = warn_threshold(page) if warn is None else warn
        self.tolerance, self.tolerance_peers = tolerance, tolerance_peers
        self.clear_windows, self.frozen_windows = clear_windows, frozen_windows
        self._steps = (numba_steps.compiled() if compiled else None) or PLAIN
        self._rule = Rule.of(streams, tolerance, tolerance_peers)
        self._parts = Parts.of(streams)
        self._words = np.zeros((len(reference), self._parts.calm.stop), np.uint16)
        self._single = np.zeros(len(reference), SINGLE)

    def __len__(self) -> int:
        return len(self._single)

    @property
    def device_bytes(self) -> int:
        """All that is kept of a device that has a reference of its own, this one included."""
        return int(self._words[:1].nbytes + SINGLE.itemsize + self.reference.row_bytes)

    def grow(self, reference: Reference) -> None:
        """Add a device for each row of `reference`."""
        self.reference.grow(reference)
        more = len(reference)
        self._words = np.concatenate([self._words, np.zeros((more, self._words.shape[1]), np.uint16)])
        self._single = np.concatenate([self._single, np.zeros(more, SINGLE)])

    def reset(self, rows: Rows, reference: Reference | None = None) -> None:
        """Start from nothing: after an acknowledgement, a deployment, a change-over or a new `reference` (row by row).

        The count of windows and what was learnt of the correlation of frames stay.
        """
        self._words[rows] = 0
        for name in ("run_same", "block", "run_identical", "level"):
            self._single[name][rows] = 0
        if reference is not None:
            self.reference.put(rows, reference)

    def state(self, row: int) -> bytes:
        """Memory of one device, of a fixed size for a model."""
        return bytes([LAYOUT, *self._single[row].tobytes(), *self._words[row].tobytes()])

    def restore(self, row: int, memory: bytes) -> None:
        """Take up the memory that `state` gave.

        Raises:
            BadInput: memory of another layout or model.
        """
        size = 1 + SINGLE.itemsize + 2 * self._words.shape[1]
        if len(memory) != size or memory[0] != LAYOUT:
            raise BadInput(f"detector: {len(memory)} bytes of memory, this model has {size} of layout {LAYOUT}")
        self._single[row] = np.frombuffer(memory, SINGLE, 1, 1)[0]
        self._words[row] = np.frombuffer(memory, np.uint16, -1, 1 + SINGLE.itemsize)

    def phi(self, rows: Rows) -> Floats:
        """Over-dispersion (rows, streams): of the reference, or learnt from pairs while it has none."""
        known = self.reference.column("phi", rows)
        if not self.reference.learns(rows).any():
            return np.asarray(known)
        learnt = self._learnt(self._single[rows], self.reference.column("agree", rows))
        return np.where(np.isnan(known), learnt[:, None], known)

    def _learnt(self, single: NDArray[np.void], agree: Floats) -> Floats:
        """Over-dispersion (n,) that the pairs of these devices show."""
        pairs = unpack_sum(single["pairs"])
        return phi_of_pairs(np.maximum(pairs - unpack_sum(single["changes"]), 0), pairs, agree)

    def tally(self, rows: Rows, counts: Integers, frames: Integers, same: Integers) -> tuple[Floats, Floats, Floats]:
        """Events, expected events and over-dispersion, (rows, streams) each: what `Peers.update` takes."""
        events, trials = self._steps.tally(self.streams, counts, frames, same)
        p0 = self.reference.column("p0", rows)
        known = ~np.isnan(p0)
        return np.where(known, events, 0), np.where(known, p0 * trials, 0), self.phi(rows)

    def update(
        self,
        rows: Rows,
        counts: Integers,
        frames: Integers,
        same: Integers,
        identical: Integers,
        m_peers: Floats | None = None,
    ) -> Verdicts:
        """Take in reports, in their order; a row may come several times (a backfill).

        Args:
            rows: (n,) device of each report.
            counts: (n, classes * 24) histogram cells.
            frames, same, identical: (n,) frames, same-cell pairs, bit-equal pairs.
            m_peers: (n, streams) M of `Peers`, nan where there are no peers.
        """
        order = np.argsort(rows, kind="stable")
        if len(rows) < 2 or (np.diff(rows[order]) > 0).all():
            return self._update(rows, counts, frames, same, identical, m_peers)
        starts = np.r_[0, np.flatnonzero(np.diff(rows[order])) + 1]
        turn = np.empty(len(rows), np.intp)
        turn[order] = np.arange(len(rows)) - np.repeat(starts, np.diff(np.r_[starts, len(rows)]))
        parts, taken = [], []
        for step in range(turn.max() + 1):
            now = np.flatnonzero(turn == step)
            peers = None if m_peers is None else m_peers[now]
            parts.append(self._update(rows[now], counts[now], frames[now], same[now], identical[now], peers))
            taken.append(now)
        back = np.argsort(np.concatenate(taken))
        return Verdicts(*(np.concatenate(column)[back] for column in zip(*parts, strict=True)))

    def _update(
        self,
        rows: Rows,
        counts: Integers,
        frames: Integers,
        same: Integers,
        identical: Integers,
        m_peers: Floats | None,
    ) -> Verdicts:
        now = self._single.view(WHOLE)[rows].view(SINGLE)
        now["windows"] += 1
        learns = self.reference.learns(rows)
        phi = self._learnt(now, self.reference.column("agree", rows)) if learns.any() else np.ones(len(rows))
        x, trials = self._steps.tally(self.streams, counts, frames, same)
        reports = Reports(x, trials, phi, m_peers, dither(now["windows"]))
        found = self._steps.weigh(self._words, self.reference, rows, reports, self._rule)
        frozen = self._watch_frames(rows, now, np.asarray(frames, np.float64), same, identical, found.score)
        reached = ((found.score >= self.warn).astype(np.uint8) + (found.score >= self.page)) * self.reference.armed[
            rows
        ]
        self._settle(rows, now, reached, reports, found.log_e)
        self._single.view(WHOLE)[rows] = now.view(WHOLE)
        return self._verdicts(rows, now, reports, found, frozen)

    def _watch_frames(
        self,
        rows: Rows,
        now: NDArray[np.void],
        n: Floats,
        same: Integers,
        identical: Integers,
        score: Floats,
    ) -> NDArray[np.bool_]:
        """Learn how correlated frames are, and tell a camera that repeats itself.

        Frozen: `frozen_windows` windows of bit-equal frames, or a run of same-cell pairs less likely than e^-2 page
        that is also twice as long as any in the device's own history; without a history, only the bit-equal ones.
        """
        chance = dither(now["windows"])
        pairs = np.maximum(n - 1, 1) * (n > 0)
        full = (same >= pairs) & (pairs > 0)
        run = unpack_sum(now["run_same"])
        if full.any() or run.any():
            run = np.where(full | (n <= 0), run + np.where(full, pairs, 0), 0)
            now["run_same"] = pack_sum(run, chance)
        equal = (identical >= pairs) & (pairs > 0)
        steps = np.minimum(now["run_identical"], 0xFE) + 1
        now["run_identical"] = np.where(equal, steps, np.where(n > 0, 0, now["run_identical"]))
        seen = unpack_sum(now["pairs"])
        learn = self.reference.learns(rows) & (score < self.warn / 2) & (seen < LEARN_PAIRS)
        if learn.any():
            changes = unpack_sum(now["changes"]) + np.maximum(pairs - same, 0)
            now["pairs"] = np.where(learn, pack_sum(seen + pairs, chance), now["pairs"])
            now["changes"] = np.where(learn, pack_sum(changes, chance), now["changes"])
        usual, longest = (self.reference.column(name, rows) for name in ("same", "longest"))
        own = ~np.isnan(usual)  # against a bundle's baseline alone, a changed product in one cell would look frozen
        unlikely = -run * np.log(np.clip(usual, 1e-6, 1 - 1e-7)) > 2 * self.page
        stuck = own & unlikely & (run > 2 * longest)
        return np.asarray(stuck | (now["run_identical"] >= self.frozen_windows))

    def _settle(
        self, rows: Rows, now: NDArray[np.void], reached: NDArray[np.uint8], reports: Reports, log_e: Floats
    ) -> None:
        """Raise levels at once; clear them after a block of windows at a normal rate."""
        rising = reached > now["level"]
        held = np.flatnonzero((now["level"] > 0) & ~rising)
        now["level"] = np.maximum(now["level"], reached)
        now["block"] = np.where(rising, 0, now["block"])
        self._words[rows[rising], self._parts.calm] = 0
        if not len(held):
            return
        margin = (1 + (self.tolerance - 1) / 2) ** self.streams.direction
        calm = self._words[rows[held], self._parts.calm].view(np.int16)
        x, trials = reports.x[held], reports.trials[held]
        expected = np.nan_to_num(self.reference.column("p0", rows[held])) * trials
        if reports.m_peers is not None:
            expected = expected * np.nan_to_num(reports.m_peers[held], nan=1.0)
        excess = (x - expected * margin) * self.streams.direction
        calm = pack_signed(unpack_signed(calm) + excess, reports.dither[held, None])
        block = np.minimum(now["block"][held] + (trials.max(axis=1) > 0), UNKNOWN)
        due = block >= self.clear_windows
        clear = due & ((calm <= 0) | (log_e[held] < self.warn)).all(axis=1)
        calm[due] = 0
        self._words[rows[held], self._parts.calm] = calm.view(np.uint16)
        now["block"][held] = np.where(due, 0, block)
        now["level"][held[clear]] = 0
        self._words[rows[held[clear]]] = 0

    def _verdicts(
        self,
        rows: Rows,
        now: NDArray[np.void],
        reports: Reports,
        found: Evidence,
        frozen: NDArray[np.bool_],
    ) -> Verdicts:
        top, each = found.top, np.arange(len(now))
        events, expected = (
            unpack_sum(self._words[rows, part.start + top]) for part in (self._parts.x, self._parts.expected)
        )
        since = self._words[rows, self._parts.since.start + top].astype(np.int64)
        windows = now["windows"].astype(np.int64)
        usual, phi = self.reference.one(rows, top)
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
