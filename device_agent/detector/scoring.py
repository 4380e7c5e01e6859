"""Evidence of change, device by device: a mixture of one-sided e-CUSUMs over streams and bets, with memory in bytes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from device_agent.detector import compiled as numba_steps
from device_agent.detector.evalue import Floats, warn_threshold
from device_agent.detector.evidence import PLAIN, Parts, Reports, Rule
from device_agent.detector.packed import UNKNOWN, dither, pack_signed, unpack_signed
from device_agent.detector.reference import Reference
from device_agent.detector.sameness import SINGLE, WHOLE, is_frozen, learn_pairs, learnt_phi
from device_agent.detector.streams import Integers, StreamSet
from device_agent.detector.table import ReferenceTable, Rows
from device_agent.detector.verdicts import Verdicts, verdicts

LAYOUT = 2


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
        learnt = learnt_phi(self._single[rows], self.reference.column("agree", rows))
        return np.where(np.isnan(known), learnt[:, None], known)

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
        phi = learnt_phi(now, self.reference.column("agree", rows)) if learns.any() else np.ones(len(rows))
        x, trials = self._steps.tally(self.streams, counts, frames, same)
        reports = Reports(x, trials, phi, m_peers, dither(now["windows"]))
        found = self._steps.weigh(self._words, self.reference, rows, reports, self._rule)
        n = np.asarray(frames, np.float64)
        learn_pairs(now, n, same, learns & (found.score < self.warn / 2))
        often, unlikely = self.frozen_windows, 2 * self.page
        frozen = is_frozen(now, self.reference, rows, n, same, identical, windows=often, unlikely=unlikely)
        levels = (found.score >= self.warn).astype(np.uint8) + (found.score >= self.page)
        reached = levels * self.reference.column("armed", rows)
        self._settle(rows, now, reached, reports, found.log_e)
        self._single.view(WHOLE)[rows] = now.view(WHOLE)
        return verdicts(self._words, self._parts, self.reference, rows, now, reports, found, frozen)

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
        due = block >= min(self.clear_windows, UNKNOWN)
        clear = due & ((calm <= 0) | (log_e[held] < self.warn)).all(axis=1)
        calm[due] = 0
        self._words[rows[held], self._parts.calm] = calm.view(np.uint16)
        now["block"][held] = np.where(due, 0, block)
        now["level"][held[clear]] = 0
        self._words[rows[held[clear]]] = 0
