"""The detector on a simulated line: how often it is wrong, and how soon it is right."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.histogram import BINS
from device_agent.detector import Detector, Peers, Reference, StreamSet, reference_from_history, streams, threshold
from fleet.worlds import DAY, Day, Fault, World, simulate

ROLES = ("good", "defect")


class Trial(NamedTuple):
    """First minutes since onset (inf: never) of warn, page and frozen for each device, and how often each was raised
    before onset; `healthy_minutes` is the time watched before onset, of all devices together."""

    warn: NDArray[np.float64]
    page: NDArray[np.float64]
    frozen: NDArray[np.float64]
    early_warns: int
    early_pages: int
    early_frozen: int
    healthy_minutes: int


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table: a fault, and how soon devices that have it are found (median minutes, None: under half)."""

    fault: str
    devices: int
    within_days: int
    page_share: float
    page_median_min: float | None
    warn_share: float
    warn_median_min: float | None


def try_detector(
    world: World,
    seed: int,
    *,
    fault: Fault = "none",
    days: int = 30,
    reference_days: int = 3,
    onset_minutes: int = 0,
    h: float | None = None,
    peers: bool = False,
    tell: Callable[[str], None] | None = None,
) -> Trial:
    """Learn a reference on healthy days, then watch. Devices of even index have their onset up to a day later.

    Args:
        world, fault: see `worlds`.
        seed: of the whole trial.
        days: watched after the reference.
        onset_minutes: healthy minutes watched before the fault; for "none" every minute counts as healthy.
        h: page threshold; a fleet of 1,000 devices and one false page a week if left out.
        peers: compare with the other devices of a site.
        tell: called with a line of progress a day.
    """
    rng = np.random.default_rng(seed)
    count = world.sites * world.devices
    start = reference_days * DAY + onset_minutes
    onset = np.full(count, start) + np.repeat(rng.integers(0, DAY, world.sites), world.devices)
    stream = simulate(world, reference_days + days, rng, fault=fault, onset=onset if fault != "none" else 0)
    chosen, reference = learn([next(stream) for _ in range(reference_days)])
    detector = Detector(chosen, reference, page=threshold(1_000) if h is None else h, compiled=True)
    watch = Watch(detector, onset if fault != "none" else np.full(count, np.iinfo(np.int64).max))
    groups = np.repeat(np.arange(world.sites), world.devices) if peers else None
    for day, block in enumerate(stream):
        watch.follow(block, (reference_days + day) * DAY, world.frames, groups)
        if tell:
            tell(f"seed {seed}: day {day + 1} of {days}")
    return watch.trial()


def learn(days: list[Day]) -> tuple[StreamSet, Reference]:
    """Streams of the fleet's pooled cells, and each device's own reference."""
    counts = np.concatenate([day.counts for day in days], axis=1)
    same = np.concatenate([day.same for day in days], axis=1)
    chosen = streams(ROLES, counts.sum(axis=(0, 1)).reshape(len(ROLES), BINS).astype(np.float64))
    parts = [reference_from_history(counts[i : i + 20], same[i : i + 20], chosen) for i in range(0, len(counts), 20)]
    reference = parts[0]
    for part in parts[1:]:
        reference = reference.joined(part)
    return chosen, reference


class Watch:
    """A detector at work, and the minutes at which its levels rise."""

    def __init__(self, detector: Detector, onset: NDArray[np.int64]) -> None:
        self.detector, self.onset = detector, onset
        self._first = np.full((3, len(onset)), np.inf)
        self._early = np.zeros(3, np.int64)
        self._before = np.zeros((3, len(onset)), np.bool_)
        self._healthy = 0
        self._peers = Peers(detector.streams, len(onset))

    def follow(self, day: Day, start: int, frames: int, groups: NDArray[np.intp] | None) -> None:
        """Feed one day that begins at minute `start`."""
        rows = np.arange(len(self.onset))
        n = np.full(len(rows), frames)
        for minute in range(day.counts.shape[1]):
            counts = day.counts[:, minute]
            m = None
            if groups is not None:
                self._peers.update(rows, *self.detector.tally(rows, counts, n, day.same[:, minute]))
                m = self._peers.multiplier(rows, groups)
            found = self.detector.update(rows, counts, n, day.same[:, minute], day.identical[:, minute], m)
            self._note(np.array([found.warn, found.page, found.frozen]), start + minute)

    def _note(self, levels: NDArray[np.bool_], minute: int) -> None:
        since = minute - self.onset
        rising = levels & ~self._before
        self._before = levels
        self._healthy += int((since < 0).sum())
        if rising.any():
            self._early += (rising & (since < 0)).sum(axis=1)
        if levels.any():
            hit = levels & (since >= 0)
            self._first[hit] = np.minimum(self._first[hit], np.broadcast_to(since + 1.0, hit.shape)[hit])

    def trial(self) -> Trial:
        """What was noted."""
        early = [int(number) for number in self._early]
        warn, page, frozen = self._first
        return Trial(warn, page, frozen, early[0], early[1], early[2], self._healthy)


def summarise(fault: str, trial: Trial, within_days: int) -> Cell:
    """Row of the table for one fault."""
    shares, medians = [], []
    for name in ("page", "warn"):
        found = np.minimum(trial.page, trial.frozen) if name == "page" else np.minimum(trial.warn, trial.frozen)
        found = np.where(found <= within_days * DAY, found, np.inf)
        middle = float(np.quantile(found, 0.5, method="higher"))
        shares.append(float(np.isfinite(found).mean()))
        medians.append(middle if math.isfinite(middle) else None)
    return Cell(
        fault=fault,
        devices=len(trial.page),
        within_days=within_days,
        page_share=shares[0],
        page_median_min=medians[0],
        warn_share=shares[1],
        warn_median_min=medians[1],
    )


def upper_bound(events: int, exposure: float, *, alpha: float = 0.05) -> float:
    """Upper one-sided limit of a Poisson rate from `events` in `exposure`: exact, by bisection on the tail.

    >>> round(upper_bound(0, 600), 5), round(upper_bound(3, 1), 2)
    (0.00499, 7.75)
    """
    low, high = 0.0, 20.0 + 4 * events
    for _ in range(80):
        mean = (low + high) / 2
        term = total = math.exp(-mean)
        for k in range(1, events + 1):
            term *= mean / k
            total += term
        low, high = (mean, high) if total > alpha else (low, mean)
    return high / exposure
