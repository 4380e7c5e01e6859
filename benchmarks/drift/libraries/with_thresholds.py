"""Plain thresholds on raw counts, as a dashboard has them: KL, PSI, KS and three standard deviations of the mean."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from feed import HOUR, Case, Notes, blocks, calibrated, mean_confidence, run


def shares(counts: np.ndarray) -> np.ndarray:
    """With half a frame in every cell."""
    return (counts + 0.5) / (counts.sum(axis=-1, keepdims=True) + 0.5 * counts.shape[-1])


def kl(seen: np.ndarray, normal: np.ndarray) -> np.ndarray:
    return (shares(seen) * np.log(shares(seen) / normal)).sum(axis=-1)


def psi(seen: np.ndarray, normal: np.ndarray) -> np.ndarray:
    return ((shares(seen) - normal) * np.log(shares(seen) / normal)).sum(axis=-1)


def ks(seen: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """The statistic over its 5 % limit for as many independent frames."""
    gap = (seen / np.maximum(seen.sum(axis=-1, keepdims=True), 1) - normal).reshape(*seen.shape[:-1], 2, 24)
    return np.abs(np.cumsum(gap.sum(axis=-2), axis=-1)).max(axis=-1) / (1.358 / np.sqrt(seen.sum(axis=-1)))


def block(measure: Callable, minutes: int, limit: float | None) -> Callable[[Case], Notes]:
    def method(case: Case) -> Notes:
        normal = shares(case.learn.sum(axis=1, dtype=np.int64))[:, None]
        found = measure(blocks(case.watch, minutes), normal)
        own = limit if limit is not None else calibrated(measure(blocks(case.learn, minutes), normal))[:, None]
        return Notes(case).of_blocks(found > own, minutes)

    return method


def three_sigma(case: Case) -> Notes:
    before, now = mean_confidence(case.learn), mean_confidence(case.watch)
    far = np.abs(now - before.mean(axis=1, keepdims=True)) > 3 * before.std(axis=1, keepdims=True)
    return Notes(case).of_blocks(far, 1)


run(
    "thresholds",
    {"numpy": np.__version__},
    {
        "KL > 0.1, every minute": block(kl, 1, 0.1),
        "KL > 0.1, hourly": block(kl, HOUR, 0.1),
        "KL hourly, tuned (1.5 x reference)": block(kl, HOUR, None),
        "KL of 10 minutes, tuned (1.5 x reference)": block(kl, 10, None),
        "PSI > 0.1, hourly": block(psi, HOUR, 0.1),
        "PSI hourly, tuned (1.5 x reference)": block(psi, HOUR, None),
        "KS at 0.05, every minute": block(ks, 1, 1.0),
        "KS of 10 minutes, tuned (1.5 x reference)": block(ks, 10, None),
        "KS hourly, tuned (1.5 x reference)": block(ks, HOUR, None),
        "three sigma on the mean, every minute": three_sigma,
    },
)
