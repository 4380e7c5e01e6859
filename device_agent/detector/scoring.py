"""Evidence of change, device by device: a mixture of one-sided e-CUSUMs over streams and bets, with memory in bytes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from device_agent.detector.evalue import (
    Floats,
    independence,
    log_mean_exp,
    phi_of_pairs,
    poisson_limits,
    tilt,
    warn_threshold,
)
from device_agent.detector.reference import Reference
from device_agent.detector.streams import Integers, StreamSet

Rows = NDArray[np.intp]
LAYOUT = 1


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

    Args:
        streams: of the model.
        reference: one row for each device.
        page, warn: scores, see `threshold` and `warn_threshold`.
        tolerance, tolerance_peers: harmless change r of a rate, without and with peers.
        clear_windows: 6 hours of one-minute windows by default.
        frozen_windows: reports in a row with nothing but bit-equal frames that make a frozen camera.
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
    ) -> None:
        self.streams = streams
        self.reference = reference
        self.page = page
        self.warn = warn_threshold(page) if warn is None else warn
        self.tolerance, self.tolerance_peers = tolerance, tolerance_peers
        self.clear_windows, self.frozen_windows = clear_windows, frozen_windows
        self._state = self._blank(len(reference))

    def _blank(self, devices: int) -> NDArray[np.void]:
        count, bets = self.streams.lifts.shape
        per_stream = [(name, np.float32, (count,)) for name in ("x", "expected", "n", "since", "block_x", "block_e")]
        single = [(name, np.float32) for name in ("score", "pairs", "same", "run_same")]
        whole = [("windows", np.int64), ("block", np.int32), ("run_identical", np.int16), ("level", np.int8)]
        blank = np.zeros(devices, [("layout", np.int8), ("w", np.float32, (count, bets)), *per_stream, *single, *whole])
        blank["layout"] = LAYOUT
        return blank

    def __len__(self) -> int:
        return len(self._state)

    def grow(self, reference: Reference) -> None:
        """Add a device for each row of `reference`."""
        self.reference = self.reference.joined(reference)
        self._state = np.concatenate([self._state, self._blank(len(reference))])

    def reset(self, rows: Rows, reference: Reference | None = None) -> None:
        """Start from nothing: after an acknowledgement, a deployment, a change-over or a new `reference` (row by row).

        The count of windows and what was learnt of the correlation of frames stay.
        """
        blank = self._blank(len(rows))
        for name in ("windows", "pairs", "same"):
            blank[name] = self._state[name][rows]
        self._state[rows] = blank
        if reference is not None:
            for name, values in vars(self.reference).items():
                values[rows] = getattr(reference, name)

    def state(self, row: int) -> bytes:
        """Memory of one device, of a fixed size for a model."""
        return bytes(self._state[row].tobytes())

    def restore(self, row: int, memory: bytes) -> None:
        """Take up the memory that `state` gave.

        Raises:
            BadInput: memory of another layout or model.
        """
        if len(memory) != self._state.itemsize or memory[0] != LAYOUT:
            raise BadInput(
                f"detector: {len(memory)} bytes of memory, this model has {self._state.itemsize} of layout 1"
            )
        self._state[row] = np.frombuffer(memory, self._state.dtype)[0]

    def phi(self, rows: Rows) -> Floats:
        """Over-dispersion (rows, streams): of the reference, or learnt from pairs while it has none."""
        known = self.reference.phi[rows]
        if not np.isnan(known).any():
            return known
        state = self._state
        learnt = phi_of_pairs(
            state["same"][rows].astype(np.float64), state["pairs"][rows].astype(np.float64), self.reference.agree[rows]
        )
        return np.where(np.isnan(known), learnt[:, None], known)

    def tally(self, rows: Rows, counts: Integers, frames: Integers, same: Integers) -> tuple[Floats, Floats, Floats]:
        """Events, expected events and over-dispersion, (rows, streams) each: what `Peers.update` takes."""
        events, trials = self.streams.tally(counts, frames, same)
        p0 = self.reference.p0[rows]
        return np.where(np.isnan(p0), 0, events), np.nan_to_num(p0) * trials, self.phi(rows)

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
        x, trials = self.streams.tally(counts, frames, same)
        phi = self.phi(rows)
        multiplier = np.ones_like(x) if m_peers is None else np.where(np.isnan(m_peers), 1.0, m_peers)
        w = self._bet(rows, x, trials, phi, multiplier, m_peers)
        now = self._state[rows]
        now["w"] = w
        live = w.max(axis=2) > 0
        expected = np.nan_to_num(self.reference.p0[rows]) * trials * multiplier
        for name, more in (("x", x), ("expected", expected), ("n", trials), ("since", 1.0)):
            now[name] = np.where(live, now[name] + more, 0)
        now["windows"] += 1
        log_e = log_mean_exp(w, axis=2)
        score = log_mean_exp(log_e, axis=1)
        frozen = self._watch_frames(now, rows, np.asarray(frames, np.float64), same, identical, phi, score)
        now["score"] = score
        armed = self.reference.armed[rows]
        reached = ((score >= self.warn).astype(np.int8) + (score >= self.page)) * armed
        self._settle(now, reached, x, expected, log_e)
        self._state[rows] = now
        return self._verdicts(now, score, log_e, frozen, phi)

    def _bet(
        self, rows: Rows, x: Floats, trials: Floats, phi: Floats, multiplier: Floats, m_peers: Floats | None
    ) -> NDArray[np.float32]:
        """W (rows, streams, bets) after this window."""
        slack = np.full(x.shape, self.tolerance)
        if m_peers is not None:
            slack = np.where(np.isnan(m_peers), self.tolerance, self.tolerance_peers)
        near = np.clip(self.reference.bound[rows] * multiplier, 1e-7, 0.98)
        odds = near / (1 - near) * slack**self.streams.direction
        theta, kappa = tilt((odds / (1 + odds))[:, :, None], independence(phi)[:, :, None], self.streams.lifts)
        step = theta * x[:, :, None] - kappa * trials[:, :, None]
        return np.maximum(np.nan_to_num(self._state["w"][rows] + step), 0).astype(np.float32)

    def _watch_frames(
        self,
        now: NDArray[np.void],
        rows: Rows,
        n: Floats,
        same: Integers,
        identical: Integers,
        phi: Floats,
        score: Floats,
    ) -> NDArray[np.bool_]:
        """Learn how correlated frames are, and tell a camera that repeats itself.

        Frozen: `frozen_windows` windows of bit-equal frames, or a run of same-cell pairs less likely than e^-2 page
        that is also twice as long as any in the device's own history; without a history, only the bit-equal ones.
        """
        pairs = np.maximum(n - 1, 1) * (n > 0)
        agree, known = self.reference.agree[rows], self.reference.same[rows]
        rho = independence(phi.min(axis=1))
        usual = np.where(np.isnan(known), agree + rho * (1 - agree), known)
        full = (same >= pairs) & (pairs > 0)
        now["run_same"] = np.where(full, now["run_same"] + pairs, np.where(n > 0, 0, now["run_same"]))
        equal = (identical >= pairs) & (pairs > 0)
        steps = np.minimum(now["run_identical"], 30_000) + 1
        now["run_identical"] = np.where(equal, steps, np.where(n > 0, 0, now["run_identical"]))
        learn = (score < self.warn / 2) * (now["pairs"] < 1e6)
        now["pairs"] += pairs * learn
        now["same"] += np.minimum(same, pairs) * learn
        unlikely = -now["run_same"] * np.log(np.clip(usual, 1e-6, 1 - 1e-7)) > 2 * self.page
        own = ~np.isnan(known)  # against a bundle's baseline alone, a changed product in one cell would look frozen
        stuck = unlikely & (now["run_same"] > 2 * self.reference.longest[rows]) & own
        return np.asarray(stuck | (now["run_identical"] >= self.frozen_windows))

    def _settle(
        self, now: NDArray[np.void], reached: NDArray[np.int8], x: Floats, expected: Floats, log_e: Floats
    ) -> None:
        """Raise levels at once; clear them after a block of windows at a normal rate."""
        rising = reached > now["level"]
        held = (now["level"] > 0) & ~rising
        now["level"] = np.maximum(now["level"], reached)
        keep = held[:, None]
        now["block"] = np.where(held, now["block"] + 1, 0)
        now["block_x"] = np.where(keep, now["block_x"] + x, 0)
        now["block_e"] = np.where(keep, now["block_e"] + expected, 0)
        due = now["block"] >= self.clear_windows
        if not due.any():
            return
        up = self.streams.direction > 0
        margin = 1 + (self.tolerance - 1) / 2
        calm = np.where(up, now["block_x"] <= now["block_e"] * margin, now["block_x"] >= now["block_e"] / margin)
        clear = due & (calm | (log_e < self.warn)).all(axis=1) & (now["block_e"].max(axis=1) > 0)
        for name in ("block", "block_x", "block_e"):
            now[name][due] = 0
        for name in ("w", "x", "expected", "n", "since", "level"):
            now[name][clear] = 0

    def _verdicts(
        self, now: NDArray[np.void], score: Floats, log_e: Floats, frozen: NDArray[np.bool_], phi: Floats
    ) -> Verdicts:
        top, each = log_e.argmax(axis=1), np.arange(len(now))
        events = now["x"][each, top].astype(np.float64)
        expected = now["expected"][each, top].astype(np.float64)
        frames, spread = now["n"][each, top].astype(np.float64), phi[each, top]
        low, high = poisson_limits(events / spread)
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio, low, high = events / expected, low * spread / expected, high * spread / expected
        none = expected <= 0
        ratio[none] = low[none] = high[none] = np.nan
        return Verdicts(
            score=score,
            log_e=log_e,
            warn=now["level"] >= 1,
            page=now["level"] >= 2,
            frozen=frozen,
            window=now["windows"].copy(),
            stream=top,
            onset=now["windows"] - np.maximum(now["since"][each, top].astype(np.int64), 1) + 1,
            ratio=ratio,
            ratio_low=low,
            ratio_high=high,
            independent=frames / spread,
        )
