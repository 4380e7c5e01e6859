"""Simulated lines with known truth, on which every drift detector can be judged: per-minute class x bin counts.

A calibrated two-class classifier (good, defect) looks at parts. The probability of a defect comes from a mixture: bulk
good parts, Beta(0.6, 250) or Beta(0.6, 180) in shares of the device's own; ambiguous ones, Beta(1.2, 1.5), about 1 %;
plain defects, Beta(20, 1), about 0.5 %. Frames repeat the one before them with probability exp(-dt / dwell). Rates move
harmlessly with the day, the site and the device. A fault starts at a minute and changes the mixture.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from device_agent.contract.histogram import BINS, EDGES

Fault = Literal["none", "ood1", "ood5", "ood20", "defects3", "blind", "bulk", "ramp", "frozen", "changeover"]
FAULTS: tuple[Fault, ...] = get_args(Fault)
DAY, CELLS = 1440, 2 * BINS
BETAS = ((0.6, 250.0), (0.6, 180.0), (1.2, 1.5), (20.0, 1.0), (2.0, 2.0), (0.6, 40.0))
GOOD_A, GOOD_B, AMBIGUOUS, DEFECT, STRANGE, SHIFTED = range(len(BETAS))
OOD = {"ood1": 0.01, "ood5": 0.05, "ood20": 0.20}


class Day(NamedTuple):
    """One day of all devices: counts (devices, 1440, 48) of cells class * 24 + bin, uint16; same and identical
    (devices, 1440) pairs of consecutive frames, int32."""

    counts: NDArray[np.uint16]
    same: NDArray[np.int32]
    identical: NDArray[np.int32]


@dataclass(frozen=True)
class World:
    """A fleet of sites x devices a site. `frames` a minute; `dwell_s` seconds that a part stays (None: frames are
    independent); `restless` False leaves out all harmless change, so that only chance moves the counts."""

    sites: int = 1
    devices: int = 20
    frames: int = 600
    dwell_s: float | None = 2.0
    restless: bool = True

    @property
    def rho(self) -> float:
        """Probability that a frame repeats the one before it."""
        return math.exp(-60 / self.frames / self.dwell_s) if self.dwell_s else 0.0


def components() -> NDArray[np.float64]:
    """Cell shares (6, 48) of the components of `BETAS`, by the midpoint rule over the log-odds of a defect.

    >>> components().sum(axis=1).round(6).tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    """
    step = 0.001
    odds = np.arange(-60, 60, step) + step / 2
    log_p, log_q = -np.logaddexp(0, -odds), -np.logaddexp(0, odds)
    cell = np.where(odds >= 0, BINS, 0) + np.searchsorted(EDGES, np.abs(odds), side="right")
    shares = np.empty((len(BETAS), CELLS))
    for row, (a, b) in enumerate(BETAS):
        norm = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
        shares[row] = np.bincount(cell, np.exp(norm + a * log_p + b * log_q) * step, CELLS)
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def simulate(
    world: World,
    days: int,
    rng: np.random.Generator,
    *,
    fault: Fault = "none",
    onset: int | NDArray[np.int64] = 0,
) -> Iterator[Day]:
    """The days of a world, one after the other; devices stand in the order of their sites.

    Args:
        world: the fleet.
        days: how many.
        rng: the only source of chance.
        fault: what goes wrong, on every device.
        onset: minute since the start, one or (devices,), from which it does; a change-over is a site's, which ought to
            have one onset.

    Raises:
        BadInput: an unknown fault.
    """
    if fault not in FAULTS:
        raise BadInput(f"worlds: unknown fault {fault!r}, one of {', '.join(FAULTS)}")
    count = world.sites * world.devices
    site = np.repeat(np.arange(world.sites), world.devices)
    shares = components()
    rate, share_b = rng.lognormal(0, 0.3, count), rng.uniform(0.2, 0.8, count)
    start = np.broadcast_to(np.asarray(onset, np.int64), (count,))
    slow = [_Drift(180, 0.10, world.sites, rng), _Drift(360, 0.05, count, rng), _Drift(180, 0.05, count, rng)]
    for day in range(days):
        minute = day * DAY + np.arange(DAY)
        wave = np.sin(2 * np.pi * minute / DAY)
        by_site, by_device, by_bulk = (drift.day() for drift in slow)
        moved = rate[:, None] * np.exp(world.restless * (0.15 * wave + by_site[site] + by_device))
        mixed = np.clip(share_b[:, None] + world.restless * (0.1 * wave + by_bulk), 0, 1)
        since = minute - start[:, None]
        mixture = _mixture(moved, mixed, fault, since)
        yield Day(*(np.stack(part) for part in zip(*_count(world, mixture @ shares, fault, since, rng), strict=True)))


class _Drift:
    """Ornstein-Uhlenbeck processes in steps of a minute, `tau` minutes long and of standard deviation `sd`."""

    def __init__(self, tau: float, sd: float, count: int, rng: np.random.Generator) -> None:
        self._keep, self._sd, self._rng = math.exp(-1 / tau), sd, rng
        self._value = rng.normal(0, sd, count)

    def day(self) -> NDArray[np.float64]:
        kick = self._rng.normal(0, self._sd * math.sqrt(1 - self._keep**2), (DAY, len(self._value)))
        out = np.empty((DAY, len(self._value)))
        for minute in range(DAY):
            self._value = self._keep * self._value + kick[minute]
            out[minute] = self._value
        return out.T


def _mixture(
    rate: NDArray[np.float64], share_b: NDArray[np.float64], fault: Fault, since: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Weights (devices, minutes, 6) of the components."""
    on = since >= 0
    ambiguous, defect = 0.010 * rate, 0.005 * rate
    if fault == "defects3":
        defect = np.where(on, 3 * defect, defect)
    elif fault == "blind":
        ambiguous, defect = np.where(on, 0.5 * ambiguous, ambiguous), np.where(on, 0.1 * defect, defect)
    elif fault == "changeover":
        ambiguous, defect = np.where(on, 1.6 * ambiguous, ambiguous), np.where(on, 1.6 * defect, defect)
        share_b = np.where(on, np.clip(share_b + 0.2, 0, 1), share_b)
    shifted = {"bulk": 0.5 * on, "ramp": np.clip(since / (7 * DAY), 0, 1), "changeover": 0.25 * on}.get(
        fault, np.zeros(on.shape)
    )
    strange = OOD.get(fault, 0.0) * on
    bulk = (1 - np.minimum(ambiguous + defect, 0.9)) * (1 - strange)
    parts = [
        bulk * (1 - shifted) * (1 - share_b),
        bulk * (1 - shifted) * share_b,
        ambiguous * (1 - strange),
        defect * (1 - strange),
        strange,
        bulk * shifted,
    ]
    return np.stack(parts, axis=-1)


def _count(
    world: World, shares: NDArray[np.float64], fault: Fault, since: NDArray[np.int64], rng: np.random.Generator
) -> Iterator[tuple[NDArray[np.uint16], NDArray[np.int32], NDArray[np.int32]]]:
    """Counts, same and identical pairs of each device from its cell shares (devices, minutes, 48)."""
    for own, age in zip(shares, since, strict=True):
        counts, same = _independent(world, own, rng) if world.dwell_s is None else _held(world, own, rng)
        identical = np.zeros(len(own), np.int32)
        if fault == "frozen" and (age >= 0).any():
            counts[age >= 0] = 0
            counts[age >= 0, own[0].argmax()] = world.frames
            same[age >= 0] = world.frames - 1
            identical[age >= 0] = world.frames - 1
        yield counts, same, identical


def _independent(
    world: World, shares: NDArray[np.float64], rng: np.random.Generator
) -> tuple[NDArray[np.uint16], NDArray[np.int32]]:
    counts = rng.multinomial(world.frames, shares / shares.sum(axis=1, keepdims=True)).astype(np.uint16)
    agree = ((counts / world.frames) ** 2).sum(axis=1)
    return counts, rng.binomial(world.frames - 1, np.clip(agree, 0, 1)).astype(np.int32)


def _held(
    world: World, shares: NDArray[np.float64], rng: np.random.Generator
) -> tuple[NDArray[np.uint16], NDArray[np.int32]]:
    """Runs of geometric length, each in a cell drawn with the shares of the minute in which it begins."""
    minutes, frames = len(shares), world.frames
    total, fresh = minutes * frames, 1 - world.rho
    expected = total * fresh
    starts = np.cumsum(rng.geometric(fresh, int(expected + 8 * math.sqrt(expected) + 50)))
    starts = np.r_[0, starts[starts < total]]
    minute = starts // frames
    ladder = np.cumsum(shares, axis=1)
    ladder = ladder / ladder[:, -1:] + np.arange(minutes)[:, None]
    cell = np.searchsorted(ladder.ravel(), minute + rng.random(len(starts)), side="right") - minute * CELLS
    cell = np.clip(cell, 0, CELLS - 1)
    edges = np.arange(minutes) * frames
    begin = np.union1d(starts, edges)
    length = np.diff(np.r_[begin, total])
    of_run = cell[np.searchsorted(starts, begin, side="right") - 1]
    counts = np.bincount(begin // frames * CELLS + of_run, length, minutes * CELLS).reshape(minutes, CELLS)
    changed = (np.diff(cell, prepend=cell[0]) != 0) & (starts % frames != 0)
    same = frames - 1 - np.bincount(minute[changed], minlength=minutes)
    return counts.astype(np.uint16), same.astype(np.int32)
