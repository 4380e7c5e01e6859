"""Devices with a new bundle against their peers without it: an e-CUSUM that harmless change of a site does not move.

Each device is held against its own rate of before, times what both models' validations tell apart, times what its
peers at the site show in the same hour (their upper limit, so that few peers excuse more). It is tolerated up to
`TOLERANCE` times that. Frames are correlated: see `device_agent.detector.evalue.tilt`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from device_agent.detector.evalue import poisson_limits, tilt

Floats = NDArray[np.float64]
TOLERANCE = 1.5
UP, DOWN = np.array([1.5, 3.0, 8.0]), np.array([0.6, 0.2, 0.02])
LEAST_M, MOST_M = 0.5, 4.0
ALONE = 1.4
"""What the time of day may do where no peer is left to tell."""
MOST_RATE = 0.5


class Sight(NamedTuple):
    """An hour of one kind of event. `frames` and `events` are counts (devices,), `expected` the rate of each device
    without the bundle's harm, 0 to 1, `up` whether more of these events are feared, else fewer."""

    frames: Floats
    events: Floats
    expected: Floats
    up: bool


def excused(sight: Sight, rho: Floats, site: NDArray[np.intp], canary: NDArray[np.bool_]) -> Floats:
    """What peers at each device's site show, over what was expected of them, (devices,): upper limits where more events
    are feared, else lower ones; `ALONE` where there are none.

    Args:
        rho: (devices,) probability that a frame is the one before it.
        site: (devices,) index of the site.
        canary: (devices,) whether it has the new bundle; the others are peers.
    """
    sites = int(site.max(initial=0)) + 1
    worth = (1 - rho) / (1 + rho)
    seen = np.bincount(site, np.where(canary, 0.0, sight.events * worth), sites)
    due = np.bincount(site, np.where(canary, 0.0, sight.frames * sight.expected * worth), sites)
    low, high = poisson_limits(np.asarray(seen, np.float64))
    unknown = np.full(sites, ALONE if sight.up else 1 / ALONE)
    limit = np.divide(high if sight.up else low, due, out=unknown, where=due > 1e-6)
    limit = np.maximum(limit, 1.0) if sight.up else np.minimum(limit, 1.0)
    return np.asarray(np.clip(limit, LEAST_M, MOST_M)[site])


def own_rates(seen: Floats, due: Floats, rho: Floats) -> Floats:
    """A device's own rates of before over what was due, (3, devices): of low confidence and of defects, two standard
    errors over what was seen, and of defects two under it. Of a device that nobody has seen, 1.

    Args:
        seen: (2, devices) frames of low confidence, and frames called a defect.
        due: (2, devices) what validation says of so many frames.
        rho: (devices,) see `excused`.
    """
    error = 2 * np.sqrt(np.maximum(seen, 1) * (1 + rho) / (1 - rho))
    safe = np.where(due > 0, due, np.nan)
    high = np.nan_to_num((seen + error) / safe, nan=1.0)
    low = np.nan_to_num(np.maximum(seen - error, 0) / safe, nan=1.0)
    return np.stack([high[0], high[1], low[1]])


class Watch:
    """The bets of a rollout, hour by hour: `highest` is the natural log of the highest e-value so far."""

    def __init__(self, devices: int, kinds: int) -> None:
        self._alone = np.zeros((kinds, devices, len(UP)))
        self._together = np.zeros((kinds, len(UP)))
        self._ever = np.zeros(devices, bool)
        self.highest = 0.0

    def add(self, sights: list[Sight], rho: Floats, site: NDArray[np.intp], canary: NDArray[np.bool_]) -> float:
        """Count an hour; the e-value's log after it. `sights` in the same order each time; see `excused`."""
        self._ever |= canary
        for kind, sight in enumerate(sights):
            shown = excused(sight, rho, site, canary)
            rate = sight.expected * shown * (TOLERANCE if sight.up else 1 / TOLERANCE)
            rate = np.clip(rate, 1e-7, MOST_RATE)
            theta, kappa = tilt(rate[:, None], rho[:, None], UP if sight.up else DOWN)
            step = theta * sight.events[:, None] - kappa * sight.frames[:, None]
            step[~canary] = 0
            self._alone[kind] = np.maximum(self._alone[kind] + step, 0)
            self._together[kind] = np.maximum(self._together[kind] + step.sum(axis=0), 0)
        if not self._ever.any():
            return 0.0
        score = _mean_log(np.array([_mean_log(self._alone[:, self._ever].ravel()), _mean_log(self._together.ravel())]))
        self.highest = max(self.highest, score)
        return score


def _mean_log(logs: Floats) -> float:
    """Log of the mean of e-values, from their logs."""
    top = float(logs.max())
    return top + math.log(float(np.exp(logs - top).mean()))
