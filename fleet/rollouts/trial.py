"""A rollout in a simulated fleet, to see how often it goes back and when: the product's own waves, bets and decisions.

Frames hold as in the worlds of the detector (a frame is the one before it with probability rho); rates differ from
device to device (lognormal, 0.3), follow the day (15 %) and wander with site (10 %) and device (5 %).
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from fleet.rollouts.decision import Evidence, decide
from fleet.rollouts.peers import Sight, Watch, own_rates
from fleet.rollouts.plan import Rollout, Terms, make_waves

Floats = NDArray[np.float64]
HOUR_MS = 3_600_000
LOW, DEFECTS = 0.01, 0.005
REFERENCE_HOURS = 72


class Harm(NamedTuple):
    """What a bundle does: it multiplies frames of low confidence and frames called a defect, against what its
    validation says."""

    low: float = 1.0
    defects: float = 1.0


class Outcome(NamedTuple):
    """How a rollout ended: "done", "rolled_back" or neither ("running"), at which wave (0 is the first), after how many
    hours, and how many devices had the bundle by then."""

    state: str
    stage: int
    hours: int
    reached: int


class _World:
    """Rates of devices, hour by hour."""

    def __init__(self, devices: int, per_site: int, rng: np.random.Generator) -> None:
        self.rng, self.site = rng, np.arange(devices) // per_site
        sites = int(self.site[-1]) + 1
        self.base = np.array([[LOW], [DEFECTS]]) * rng.lognormal(0, 0.3, (2, devices))
        self._phase = rng.random(sites)
        self._of_site, self._of_device = rng.normal(0, 0.10, sites), rng.normal(0, 0.05, devices)

    def rates(self, hour: int) -> Floats:
        """(2, devices): low confidence, defects."""
        for state, sd, tau in ((self._of_site, 0.10, 3), (self._of_device, 0.05, 6)):
            keep = np.exp(-1 / tau)
            state[:] = keep * state + sd * np.sqrt(1 - keep**2) * self.rng.normal(size=len(state))
        day = 0.15 * np.sin(2 * np.pi * (hour / 24 + self._phase))
        return np.asarray(self.base * np.exp((day + self._of_site)[self.site] + self._of_device))

    def events(self, rates: Floats, frames: int, rho: float) -> Floats:
        """Counts of an hour: runs of frames, each as long as its part stays in view."""
        runs = self.rng.poisson(np.minimum(rates, 0.5) * frames * (1 - rho))
        longer = self.rng.negative_binomial(np.maximum(runs, 1), 1 - rho)
        return np.minimum(runs + np.where(runs > 0, longer, 0), frames).astype(np.float64)


def run_trial(
    harm: Harm,
    seed: int,
    *,
    devices: int = 1000,
    per_site: int = 20,
    frames: int = 36_000,
    rho: float = 0.951,
    hours: int = 200,
    terms: Terms = Terms(),  # noqa: B008 - frozen
) -> Outcome:
    """Bring a bundle to a fleet. `frames` an hour; the rollout is watched for `hours` hours at most."""
    world = _World(devices, per_site, np.random.default_rng(seed))
    each, site = np.full(devices, rho), world.site
    seen = sum(world.events(world.rates(hour), frames, rho) for hour in range(-REFERENCE_HOURS, 0))
    usual = np.array([[LOW], [DEFECTS]])
    due = np.broadcast_to(usual * frames * REFERENCE_HOURS, (2, devices))
    ratio = own_rates(np.asarray(seen), np.asarray(due), each)
    names = {f"d{number}": f"s{place}" for number, place in enumerate(site.tolist())}
    rollout = Rollout(id="r", bundle="new", back="old", models=[], old=[], waves=make_waves(names, f"r-{seed}"),
                      terms=terms, state="running", stage=0)  # fmt: skip
    watch, worth, begun = Watch(devices, 3), 0.0, 0
    for hour in range(hours):
        canary = np.zeros(devices, bool)
        canary[[int(name[1:]) for name in rollout.chosen]] = True
        factor = np.where(canary, np.array([[harm.low], [harm.defects]]), 1.0)
        low, defects = world.events(world.rates(hour) * factor, frames, rho)
        count, expected = np.full(devices, float(frames)), usual[[0, 1, 1]] * ratio
        kinds = ((low, True), (defects, True), (defects, False))
        sights = [Sight(count, events, expected[i], up) for i, (events, up) in enumerate(kinds)]
        watch.add(sights, each, site, canary)
        worth += canary.sum() * frames * (1 - rho) / (1 + rho)
        now_ms = (hour + 1) * HOUR_MS
        evidence = Evidence(running=int(canary.sum()), independent=worth, hours=hour + 1 - begun, log_e=watch.highest)
        decision = decide(rollout, evidence, now_ms)
        if decision.action in ("roll back", "finish"):
            state = "done" if decision.action == "finish" else "rolled_back"
            return Outcome(state, rollout.stage, hour + 1, int(canary.sum()))
        if decision.action == "advance":
            rollout = msgspec.structs.replace(rollout, stage=rollout.stage + 1, stage_ms=now_ms)
            worth, begun = 0.0, hour + 1
    return Outcome("running", rollout.stage, hours, len(rollout.chosen))
