"""A share with its limits."""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput

CONFIDENCE = 0.95
Floats = NDArray[np.float64]


class Interval(msgspec.Struct, frozen=True):
    """A figure in [0, 1] and its two-sided 95 % limits."""

    value: float
    low: float
    high: float

    @property
    def width(self) -> float:
        """High less low."""
        return self.high - self.low


def exact(hits: int, trials: int, confidence: float = CONFIDENCE) -> Interval:
    """Share of `hits` in `trials` independent ones, with the limits of Clopper and Pearson (1934).

    >>> exact(0, 60).high.__round__(3), exact(57, 60)
    (0.06, Interval(value=0.95, low=0.8608, high=0.9896))

    Raises:
        BadInput: no trials, or hits that are not 0 to `trials`.
    """
    if trials < 1 or not 0 <= hits <= trials:
        raise BadInput(f"accuracy: {hits} hits of {trials} are no share")
    tail = (1 - confidence) / 2
    low = 0.0 if hits == 0 else _root(lambda p: binomial_tail(hits, trials, p) - tail)
    high = 1.0 if hits == trials else _root(lambda p: binomial_tail(hits + 1, trials, p) - (1 - tail))
    return Interval(hits / trials, round(low, 4), round(high, 4))


def binomial_tail(least: int, trials: int, share: float) -> float:
    """Probability of at least `least` hits in `trials` independent ones of chance `share`.

    >>> round(binomial_tail(9, 10, 0.5), 6)
    0.010742
    """
    if least <= 0:
        return 1.0
    if least > trials or share <= 0:
        return 0.0
    if share >= 1:
        return 1.0
    count = np.arange(least, trials + 1)
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, trials + 1)))])
    terms = logs[trials] - logs[count] - logs[trials - count]
    return float(min(np.exp(terms + count * math.log(share) + (trials - count) * math.log1p(-share)).sum(), 1.0))


def wilson(share: float, trials: float, z: float = 1.959964) -> Interval:
    """A share seen in so many independent trials, which need not be whole, with the limits of Wilson (1927).

    >>> wilson(0.9, 100)
    Interval(value=0.9, low=0.8256, high=0.9448)

    Raises:
        BadInput: no trials, or a share outside of [0, 1].
    """
    if not (trials > 0 and 0 <= share <= 1):
        raise BadInput(f"accuracy: a share of {share} in {trials} trials is none")
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    off = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials)) / (1 + z * z / trials)
    return Interval(share, round(max(centre - off, 0.0), 4), round(min(centre + off, 1.0), 4))


def of_draws(value: float, draws: Floats, confidence: float = CONFIDENCE) -> Interval:
    """A figure with the percentiles of its (draws,) resampled values, nan left out; it lies within them."""
    known = draws[np.isfinite(draws)]
    if not len(known):
        return Interval(value, 0.0, 1.0)
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(value, float(np.clip(min(low, value), 0, 1)), float(np.clip(max(high, value), 0, 1)))


def _root(rising: Callable[[float], float]) -> float:
    """Where a function that rises over [0, 1] crosses 0."""
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        if rising(middle) < 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2
