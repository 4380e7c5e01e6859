"""alibi-detect: KSDrift on the confidence and ChiSquareDrift on the predicted class, hourly."""

from __future__ import annotations

from collections.abc import Callable

import alibi_detect
import numpy as np
from alibi_detect.cd import ChiSquareDrift, KSDrift
from feed import Case, Notes, blocks, calibrated, run, unfold

MOST, EVERY = 2000, 10
"""Frames of the reference; one frame in ten of an hour is unfolded, 3,600, so that it ends in time."""


def hourly(kind: str, *, tuned: bool) -> Callable[[Case], Notes]:
    """Drift of each hour against the reference: at p < 0.05, or over 1.5 times the reference's own largest distance."""

    def method(case: Case) -> Notes:
        learnt, watched = blocks(case.learn), blocks(case.watch)
        up = np.zeros(watched.shape[:2], np.bool_)
        for device in range(case.devices):
            detector = make(learnt[device].sum(axis=0))
            if tuned:
                own = [distance(detector, hour) for hour in learnt[device]]
                limit = calibrated(np.array([own]))[0]
                up[device] = [distance(detector, hour) > limit for hour in watched[device]]
            else:
                up[device] = [alarms(detector, hour) for hour in watched[device]]
        return Notes(case).of_blocks(up)

    def make(counts: np.ndarray) -> KSDrift | ChiSquareDrift:
        sample = frames(counts)
        picked = np.random.default_rng(1).choice(sample, MOST)
        if kind == "ks":
            return KSDrift(picked[:, None], p_val=0.05)
        return ChiSquareDrift(np.resize([0, 1], MOST)[:, None] if len(set(picked)) < 2 else picked[:, None], p_val=0.05)

    def frames(counts: np.ndarray) -> np.ndarray:
        if kind == "ks":
            return unfold(counts)[::EVERY].astype(np.float32)
        return np.repeat([0, 1], [counts[:24].sum(), counts[24:].sum()])[::EVERY]

    def said(detector: KSDrift | ChiSquareDrift, hour: np.ndarray) -> dict:
        return detector.predict(frames(hour)[:, None], return_p_val=True, return_distance=True)["data"]

    def distance(detector: KSDrift | ChiSquareDrift, hour: np.ndarray) -> float:
        return float(said(detector, hour)["distance"][0])

    def alarms(detector: KSDrift | ChiSquareDrift, hour: np.ndarray) -> bool:
        return bool(said(detector, hour)["is_drift"])

    return method


run(
    "alibi-detect",
    {"alibi-detect": alibi_detect.__version__, "numpy": np.__version__},
    {
        "KSDrift on confidence, hourly, default (p 0.05)": hourly("ks", tuned=False),
        "KSDrift on confidence, hourly, tuned (1.5 x reference)": hourly("ks", tuned=True),
        "ChiSquareDrift on class, hourly, default (p 0.05)": hourly("chi2", tuned=False),
        "ChiSquareDrift on class, hourly, tuned (1.5 x reference)": hourly("chi2", tuned=True),
    },
)
