"""A simulated fleet straight into the detector, one site after the other, and every alarm that it gave."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from device_agent.contract.histogram import BINS
from device_agent.detector import Detector, Peers, reference_from_history, streams, threshold
from fleet.diagnostics.as_detector import TextbookDetector
from fleet.diagnostics.choice import OURS, make_test
from fleet.diagnostics.normal import normal_of_history
from fleet.trials import upper_bound
from fleet.worlds import DAY, Day, Fault, World, affected, simulate_sites, site_rng

LEVELS = ("warn", "page", "frozen")


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is simulated. `onset_min` counts from the end of the reference; `devices` sets the page threshold too; only
    whole sites are simulated. `test`: "ours" or a textbook test."""

    world: str
    devices: int
    days: int
    seed: int
    fault: Fault = "none"
    onset_min: int = 0
    affected: float = 1.0
    reference_days: int = 3
    pages_a_week: float = 1.0
    peers: bool = True
    test: str = OURS


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """A level that a device reached. `minute` counts from the end of the reference; `delay_min` from the onset, None
    for a false alarm; `ratio` is the rate of the strongest stream against what is normal, None where none is known."""

    device: int
    minute: int
    level: str
    delay_min: int | None
    stream: str
    score: float
    ratio: float | None


class SiteRun(msgspec.Struct, frozen=True, kw_only=True):
    """One site: its alarms, and the device-minutes watched in which nothing was wrong."""

    site: int
    devices: int
    sick: int
    healthy_minutes: int
    alarms: list[Alarm]


def run_site(plan: Plan, world: World, site: int) -> SiteRun:
    """Simulate one site: learn on healthy days, then watch. The same plan and site give the same alarms.

    Args:
        plan: what is simulated.
        world: of that name, `devices` of which make a site.
        site: number of the site, >= 0.

    Raises:
        BadInput: a fault that the world cannot have, or an unknown test.
    """
    count = world.devices
    start = plan.reference_days * DAY
    sick = affected(count, plan.affected) & (plan.fault != "none")
    onset = np.where(sick, start + plan.onset_min, np.iinfo(np.int64).max // 2)
    days = simulate_sites(
        replace(world, sites=1),
        plan.reference_days + plan.days,
        [site_rng(plan.seed, site)],
        fault=plan.fault,
        onset=onset,
    )
    history = [_whole(next(days)) for _ in range(plan.reference_days)]
    coarse = world.coarse()
    groups = [np.flatnonzero(coarse == kind) for kind in (False, True) if (coarse == kind).any()]
    watches = [_Watch(plan, world, rows, history, onset - start) for rows in groups]
    alarms: list[Alarm] = []
    for day, block in enumerate(days):
        for watch in watches:
            alarms += watch.follow(block, day * DAY)
    healthy = int(np.minimum(onset - start, plan.days * DAY).sum())
    alarms.sort(key=lambda alarm: (alarm.minute, alarm.device))
    return SiteRun(site=site, devices=count, sick=int(sick.sum()), healthy_minutes=healthy, alarms=alarms)


def _whole(day: Day) -> Day:
    """The day without the reports that never came; late ones count, as a reference is learnt from the store."""
    if day.delay_min is None:
        return day
    there = day.delay_min >= 0
    return Day(
        day.counts * there[..., None].astype(np.uint16),
        (day.same * there).astype(np.int32),
        (day.identical * there).astype(np.int32),
    )


class _Watch:
    """The detector of those devices of a site that run one artifact."""

    def __init__(
        self, plan: Plan, world: World, rows: NDArray[np.intp], history: list[Day], onset: NDArray[np.int64]
    ) -> None:
        self._rows, self._frames, self._onset = rows, world.frames, onset[rows]
        counts = np.concatenate([day.counts[rows] for day in history], axis=1)
        same = np.concatenate([day.same[rows] for day in history], axis=1)
        labels = world.labels()
        pooled = counts.sum(axis=(0, 1)).reshape(len(labels), BINS).astype(np.float64)
        chosen = streams([label.role for label in labels], pooled, [label.name for label in labels])
        reference = reference_from_history(counts, same, chosen)
        page = threshold(plan.devices, pages_a_week=plan.pages_a_week)
        if plan.test == OURS:
            self._detector = Detector(chosen, reference, page=page)
        else:
            normal = normal_of_history(counts, same)
            make = partial(make_test, plan.test)
            self._detector = TextbookDetector(chosen, reference, normal, make, page=page)
        self._names = chosen.names
        self._peers = Peers(chosen, len(rows)) if plan.peers and len(rows) > 1 else None
        self._level = np.zeros((len(LEVELS), len(rows)), np.bool_)
        self._late: dict[int, list[tuple[int, Day, int]]] = {}

    def follow(self, day: Day, start: int) -> Iterator[Alarm]:
        """Alarms of one day that begins at minute `start`; reports are fed in the minute in which they come."""
        everyone = np.arange(len(self._rows))
        for minute in range(DAY):
            now = everyone
            if day.delay_min is not None:
                delay = day.delay_min[self._rows, minute]
                now = np.flatnonzero(delay == 0)
                for row in np.flatnonzero(delay > 0).tolist():
                    self._late.setdefault(start + minute + int(delay[row]), []).append((row, day, minute))
            yield from self._feed(now, day, minute, start + minute)
            for row, then, of in self._late.pop(start + minute, ()):
                yield from self._feed(np.array([row]), then, of, start + minute)

    def _feed(self, now: NDArray[np.intp], day: Day, minute: int, clock: int) -> Iterator[Alarm]:
        if not len(now):
            return
        rows = self._rows[now]
        counts, same, identical = (part[rows, minute] for part in (day.counts, day.same, day.identical))
        frames, m = np.full(len(now), self._frames), None
        if self._peers is not None:
            self._peers.update(now, *self._detector.tally(now, counts, frames, same))
            m = self._peers.multiplier(now, np.zeros(len(self._rows), np.intp))
        found = self._detector.update(now, counts, frames, same, identical, m)
        levels = np.array([found.warn, found.page, found.frozen])
        rising = levels & ~self._level[:, now]
        self._level[:, now] = levels
        for level, row in zip(*np.nonzero(rising), strict=True):
            ratio, since = float(found.ratio[row]), clock + 1 - int(self._onset[now[row]])
            yield Alarm(
                device=int(rows[row]),
                minute=clock + 1,
                level=LEVELS[level],
                delay_min=since if since > 0 else None,
                stream=self._names[int(found.stream[row])],
                score=round(float(found.score[row]), 2),
                ratio=round(ratio, 3) if np.isfinite(ratio) else None,
            )


class Kept:
    """Results in a file of JSON lines, a site each: what is there already of the same plan need not be run again.

    Args:
        path: of the file; None keeps nothing.
        plan: what is simulated.

    Raises:
        BadInput: a file of something else.
    """

    def __init__(self, path: Path | None, plan: Plan) -> None:
        self._path, self._plan = path, plan
        self.runs: dict[int, SiteRun] = {}
        if path is None or not path.exists():
            return
        *lines, cut = path.read_bytes().split(b"\n")
        if cut:  # a run that was killed while it wrote: that site is run again
            os.truncate(path, path.stat().st_size - len(cut))
        for number, line in enumerate(lines, start=1):
            try:
                kept = msgspec.json.decode(line, type=_Line)
            except msgspec.DecodeError as error:
                raise BadInput(f"{path}: line {number} is no result of simulate: {str(error).lower()}") from None
            if kept.plan == plan:
                self.runs[kept.run.site] = kept.run

    def add(self, run: SiteRun) -> None:
        """Keep one more site."""
        self.runs[run.site] = run
        if self._path is not None:
            with self._path.open("ab") as out:
                out.write(msgspec.json.encode(_Line(plan=self._plan, run=run)) + b"\n")


class _Line(msgspec.Struct, frozen=True, kw_only=True):
    plan: Plan
    run: SiteRun


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """All sites together. False alarms are those of healthy devices or before the onset, a device-month each with its
    upper 95 % limit; `found` the share of sick devices that reached the level after the onset, and `median_min` their
    median delay, None where under half were found. Measured on simulated lines."""

    plan: Plan
    sites: int
    healthy_months: float
    false_alarms: dict[str, int]
    false_upper_95: dict[str, float]
    sick: int
    found: dict[str, float]
    median_min: dict[str, float | None]


def summarise(plan: Plan, runs: list[SiteRun]) -> Summary:
    """The figures of all sites."""
    months = sum(run.healthy_minutes for run in runs) / (30 * DAY)
    sick = sum(run.sick for run in runs)
    false: dict[str, int] = dict.fromkeys(LEVELS, 0)
    first: dict[str, dict[tuple[int, int], int]] = {level: {} for level in LEVELS}
    for run in runs:
        for alarm in run.alarms:
            if alarm.delay_min is None:
                false[alarm.level] += 1
            else:
                first[alarm.level].setdefault((run.site, alarm.device), alarm.delay_min)
    delays = {level: sorted(first[level].values()) for level in LEVELS}
    return Summary(
        plan=plan,
        sites=len(runs),
        healthy_months=round(months, 3),
        false_alarms=false,
        false_upper_95={level: round(upper_bound(false[level], months), 4) for level in LEVELS if months},
        sick=sick,
        found={level: round(len(delays[level]) / sick, 4) for level in LEVELS if sick},
        median_min={level: _middle(delays[level], sick) for level in LEVELS if sick},
    )


def _middle(delays: list[int], sick: int) -> float | None:
    """Median of all sick devices, those never found last."""
    return float(delays[sick // 2]) if sick // 2 < len(delays) else None
