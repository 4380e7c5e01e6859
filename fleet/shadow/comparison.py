"""A candidate against the model that serves: figures with their limits, and what they recommend.

Error rates, at whatever time and however often one looks (`ALPHA`):
- promoted although it is right on `margin` of all frames less: at most `ALPHA`;
- rejected although it is right as often, on all parts and on defective ones: at most `ALPHA`;
- an alarm within `HOURS` hours although the models disagree no more than `TOLERANCE` times as often as expected: at
  most `ALPHA`. An alarm asks for labels and rejects nothing by itself: the model that serves may be the one that fails.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Literal, NamedTuple

import msgspec
import numpy as np

from fleet.shadow.disagreement import Watch, independent, limits, repeat, watch
from fleet.shadow.labelled import Outcomes, balance, log_bet, mcnemar
from fleet.shadow.tally import Counts, Hour

ALPHA, TOLERANCE, HOURS = 0.05, 1.5, 672
LEAST, LEAST_HOURS, MARGIN = 2_000, 24, 0.002
Recommendation = Literal["promote", "reject", "keep watching"]


class Terms(NamedTuple):
    """What is asked of a candidate: `least` independent frames over `least_hours` hours, and at most `margin` of all
    frames answered rightly less, 0 to 1. `expected`: share of disagreements, None where nobody knows."""

    expected: float | None = None
    margin: float = MARGIN
    least: float = LEAST
    least_hours: int = LEAST_HOURS


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate (id) beside what served. Shares are of frames, 0 to 1, measured; `predicted` is from validation, or
    as it was stated. `change`: of the share that is right, candidate less serving, None without labels or agreement to
    tell it from. Limits are one-sided, together wrong with a probability of 5 % at most at all times at once."""

    candidate: str
    devices: int
    hours: int
    frames: int
    independent: float
    disagreement: float
    disagreement_low: float
    disagreement_high: float
    predicted: float | None
    alarm_ms: int | None
    log_e: float | None
    labelled: Outcomes
    labelled_defects: Outcomes
    mcnemar_p: float
    log_e_better: float
    log_e_worse: float
    change_low: float
    change_high: float
    matrix: list[list[int]]
    recommendation: Recommendation
    reasons: list[str]


def compare(
    candidate: str,
    hours: list[Hour],
    terms: Terms,
    labelled: Outcomes = Outcomes(),  # noqa: B008 - a tuple
    defects: Outcomes = Outcomes(),  # noqa: B008
) -> Comparison:
    """Figures and recommendation of a candidate's hours, in the order of time, and of labelled disagreements."""
    devices = sorted({(hour.device, hour.serving) for hour in hours})
    times = sorted({hour.start_ms for hour in hours})
    frames, apart = np.zeros((2, len(times), len(devices)))
    sums: dict[tuple[str, str], Counts] = defaultdict(Counts)
    for hour in hours:
        where = times.index(hour.start_ms), devices.index((hour.device, hour.serving))
        frames[where] += hour.counts.frames
        apart[where] += hour.counts.frames - hour.counts.agreed
        sums[hour.device, hour.serving].add(hour.counts)
    rho = np.array([repeat(sums[device]) for device in devices])
    seen = frames.sum(axis=0)
    low, high = limits(seen, apart.sum(axis=0), rho, ALPHA / 2) if hours else (0.0, 1.0)
    watched = None
    if hours and terms.expected:
        watched = watch(frames, apart, rho, terms.expected, tolerance=TOLERANCE, hours=HOURS, alpha=ALPHA)
    worth = float(sum(independent(n, r) for n, r in zip(seen, rho, strict=True)))
    change = change_of(low, high, labelled)
    recommendation, reasons = recommend(worth, len(times), high, change, watched, labelled, defects, terms)
    total = float(seen.sum())
    return Comparison(
        candidate=candidate,
        devices=len({hour.device for hour in hours}),
        hours=len(times),
        frames=int(total),
        independent=worth,
        disagreement=float(apart.sum() / total) if total else 0.0,
        disagreement_low=low,
        disagreement_high=high,
        predicted=terms.expected,
        alarm_ms=None if watched is None or watched.alarm is None else times[watched.alarm],
        log_e=watched and watched.highest,
        labelled=labelled,
        labelled_defects=defects,
        mcnemar_p=mcnemar(labelled),
        log_e_better=log_bet(labelled, 0.5, up=True),
        log_e_worse=log_bet(labelled, 0.5, up=False),
        change_low=change[0],
        change_high=change[1],
        matrix=_matrix(list(sums.values())),
        recommendation=recommendation,
        reasons=reasons,
    )


def change_of(low: float, high: float, labelled: Outcomes) -> tuple[float, float]:
    """Limits of the change in the share of right answers: disagreements times better less worse among them. Where they
    never disagree nothing can change.

    Args:
        low, high: limits of the share of disagreements, each for `ALPHA` / 2.
    """
    worst, best = balance(labelled, ALPHA / 2) if labelled.total else (-1.0, 1.0)
    return worst * (high if worst < 0 else low), best * (high if best > 0 else low)


def recommend(
    worth: float,
    hours: int,
    high: float,
    change: tuple[float, float],
    watched: Watch | None,
    labelled: Outcomes,
    defects: Outcomes,
    terms: Terms,
) -> tuple[Recommendation, list[str]]:
    """Promote, reject or keep watching, and why."""
    reasons = []
    if watched is not None and watched.alarm is not None:
        reasons.append(f"it disagrees more than {TOLERANCE:g} times as often as expected: label disagreements, as the "
                       "model that serves may be the one that fails")  # fmt: skip
    bar = -np.log(ALPHA / 2)
    worse = [
        f"right on fewer {what}: {outcomes.worse} lost, {outcomes.better} won among those labelled"
        for what, outcomes in (("parts", labelled), ("defective parts", defects))
        if log_bet(outcomes, 0.5, up=False) >= bar
    ]
    if worse:
        return "reject", [*worse, *reasons]
    missing = []
    if worth < terms.least:
        missing.append(f"{worth:.0f} of {terms.least:g} independent frames")
    if hours < terms.least_hours:
        missing.append(f"{hours} of {terms.least_hours} hours")
    if change[0] <= -terms.margin:
        known = f"it may be right on {-change[0]:.2%} of frames less, allowed is {terms.margin:.2%}"
        missing.append(f"{known}; {'more' if labelled.total else 'label'} disagreements would tell")
    if missing:
        return "keep watching", [*missing, *reasons]
    how = f"on {labelled.total} labelled disagreements" if labelled.total else f"it disagrees on {high:.2%} at most"
    return "promote", [f"right on {max(0.0, -change[0]):.2%} of frames less at most: {how}", *reasons]


def _matrix(sums: list[Counts]) -> list[list[int]]:
    """Counts [class that was served][the candidate's class]; empty where devices report none."""
    classes = max((one.classes for one in sums), default=0)
    if not any(one.matrix for one in sums) or any(one.classes != classes for one in sums):
        return []
    flat = np.zeros(classes * classes, np.int64)
    for one in sums:
        for cell, count in one.matrix.items():
            flat[cell] += count
    rows: list[list[int]] = flat.reshape(classes, classes).tolist()
    return rows
