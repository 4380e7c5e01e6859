"""How often a candidate and the model that serves disagree: what validation predicts, limits, and a watch over hours.

All of it may be looked at after every hour, for as long as one likes: limits hold at all times at once, and the watch
is an e-detector (Shin, Ramdas and Rinaldo 2023). Frames are correlated: see `device_agent.detector.evalue.tilt`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.manifest import Baseline
from device_agent.detector.evalue import phi_of_pairs, tilt
from fleet.shadow.tally import Counts

Floats = NDArray[np.float64]
WATCHED = np.array([1.5, 3.0, 8.0])
LIFTS = np.geomspace(1.03, 2000, 16)
BOUNDS = (1e-7, 1 - 1e-7)


def predicted(serving: Baseline, candidate: Baseline) -> float | None:
    """Share of frames, 0 to 1, on which two models would disagree if their mistakes on parts of a class had nothing to
    do with one another; None where the classes differ or nobody stated their shares on the line. A prediction, and
    rather too high a one: models that learnt from the same images make the same mistakes.

    >>> from device_agent.contract.histogram import BINS
    >>> counts = np.zeros((2, 2, BINS), int); counts[:, :, 9] = [[99, 1], [10, 90]]
    >>> baseline = Baseline.of(counts, [0.9, 0.1])
    >>> round(predicted(baseline, baseline), 4)
    0.0358
    """
    shares = candidate.prevalence or serving.prevalence
    if shares is None or serving.classes != candidate.classes:
        return None
    answers = []
    for baseline in (serving, candidate):
        counts = baseline.dense().sum(axis=2).astype(np.float64) + 1e-9
        answers.append(counts / counts.sum(axis=1, keepdims=True))
    agree = (answers[0] * answers[1]).sum(axis=1)
    return float(1 - np.dot(shares, agree))


def repeat(counts: Counts) -> float:
    """Probability rho, 0 to under 1, that a frame which the candidate sees is the one before it, told from the frames
    that were served. Of the distance between frames that it sees, only half is believed, as it varies."""
    served = np.array(list(counts.served.values()), np.float64)
    total = served.sum()
    if not total or not counts.frames:
        return 0.98
    agree = np.array([float(((served / total) ** 2).sum())])
    phi = phi_of_pairs(np.array([float(counts.same)]), np.array([max(total - counts.reports, 0.0)]), agree)[0]
    rho, stride = (phi - 1) / (phi + 1), max(1.0, total / counts.frames)
    return float(rho ** max(1.0, stride / 2))


def independent(frames: float, rho: float) -> float:
    """Independent frames that so many correlated ones are worth.

    >>> independent(100, 0.0), round(independent(100, 0.95), 2)
    (100.0, 2.56)
    """
    return frames * (1 - rho) / (1 + rho)


def limits(frames: Floats, disagreed: Floats, rho: Floats, alpha: float) -> tuple[float, float]:
    """Lower and upper limit of the share of disagreements, each wrong with probability `alpha` at most, at whatever
    time one looks, however often.

    Args:
        frames: (devices,) frames that the candidate saw.
        disagreed: (devices,) those on which the models disagree.
        rho: (devices,) see `repeat`.

    >>> low, high = limits(np.array([1e4]), np.array([100.0]), np.array([0.0]), 0.05)
    >>> round(low, 4), round(high, 4)
    (0.0068, 0.0143)
    """

    def against(rate: float, lifts: Floats) -> float:
        rates = np.full((len(frames), 1), rate)
        theta, kappa = tilt(rates, rho[:, None], lifts)
        return _mean_log((theta * disagreed[:, None] - kappa * frames[:, None]).sum(axis=0))

    bar = -math.log(alpha)
    low = _cross(lambda rate: against(rate, LIFTS) < bar)
    high = _cross(lambda rate: against(rate, 1 / LIFTS) >= bar)
    return (low if disagreed.any() else 0.0), high


def _cross(passed: Callable[[float], bool]) -> float:
    """Where a condition on a share begins to hold."""
    low, high = BOUNDS
    for _ in range(50):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if passed(middle) else (middle, high)
    return high


class Watch(NamedTuple):
    """What the watch saw: the natural log of its e-value after the last hour, the highest it was, the `bar` that it
    alarms at, and the hour (index) of the first alarm, None without one."""

    score: float
    highest: float
    bar: float
    alarm: int | None


def watch(
    frames: Floats, disagreed: Floats, rho: Floats, expected: float, *, tolerance: float, hours: int, alpha: float
) -> Watch:
    """An e-CUSUM of disagreements over what is expected, of all devices together and of each one alone, half and half.
    Where no device disagrees on more than `tolerance` times `expected` of its frames, it alarms within `hours` hours
    with a probability of `alpha` at most.

    Args:
        frames: (hours, devices) frames that the candidate saw.
        disagreed: (hours, devices) those on which the models disagree.
        rho: (devices,) see `repeat`.
        expected: share of disagreements, in (0, 1).
    """
    null = min(tolerance * expected, 0.5)
    theta, kappa = tilt(np.full((len(rho), 1), null), rho[:, None], WATCHED)
    alone, together = np.zeros((len(rho), len(WATCHED))), np.zeros(len(WATCHED))
    bar, score, highest, alarm = math.log(hours / alpha), 0.0, 0.0, None
    for hour, (seen, apart) in enumerate(zip(frames, disagreed, strict=True)):
        step = theta * apart[:, None] - kappa * seen[:, None]
        alone, together = np.maximum(alone + step, 0), np.maximum(together + step.sum(axis=0), 0)
        score = _mean_log(np.array([_mean_log(alone.ravel()), _mean_log(together)]))
        highest = max(highest, score)
        if alarm is None and score >= bar:
            alarm = hour
    return Watch(score, highest, bar, alarm)


def _mean_log(logs: Floats) -> float:
    """Log of the mean of e-values, from their logs."""
    top = float(logs.max())
    return top + math.log(float(np.exp(logs - top).mean()))
