"""Worlds: what moves harmlessly on a line, and what goes wrong, as shares of the kinds of parts in every minute."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from device_agent.contract.manifest import Baseline, Label
from fleet.worlds.classifier import (
    AMBIGUOUS,
    DEFECT,
    GOOD_A,
    GOOD_B,
    QUANTUM,
    SHIFTED,
    STRANGE,
    Classifier,
    Floats,
    classifier,
)

Fault = Literal[
    "none",
    "ood1",
    "ood5",
    "ood20",
    "defects3",
    "blind",
    "bulk",
    "ramp",
    "frozen",
    "changeover",
    "burst",
    "dirt",
    "lamp",
    "labels",
]
FAULTS: tuple[Fault, ...] = get_args(Fault)
MEANING: dict[Fault, str] = {
    "none": "nothing goes wrong",
    "ood1": "1 % of frames show strange parts",
    "ood5": "5 % of frames show strange parts",
    "ood20": "20 % of frames show strange parts",
    "defects3": "three times the defects",
    "blind": "9 of 10 defects are no longer seen",
    "bulk": "half of the good parts are less sure",
    "ramp": "good parts become less sure, all of them after 7 days",
    "frozen": "one frame for ever",
    "changeover": "another product: rates and confidence move together",
    "burst": "a bad batch of 45 minutes: eight times the defects",
    "dirt": "slow lens dirt: half of the good parts less sure and twice as many ambiguous after 14 days",
    "lamp": "a lamp that fails by night: half of the good parts less sure from 22 to 6 o'clock",
    "labels": "the shares of the defect classes turn round, their sum stays (several classes)",
}
DAY, NIGHT_FROM, NIGHT_TO = 1440, 22 * 60, 6 * 60
OOD = {"ood1": 0.01, "ood5": 0.05, "ood20": 0.20}
BURST_MIN, BATCH_MIN = 45, 120


@dataclass(frozen=True)
class World:
    """A fleet of sites x devices a site, and what moves on it without harm.

    frames: a minute. dwell_s: seconds that a part stays; None: frames are independent. restless: False leaves out all
    harmless change, so that only chance moves the counts. classes: of the model. night: step of rates and confidence
    from 22 to 6 o'clock, 0.15 is 15 %. batches: standard deviation of the log rate of defects from batch to batch, two
    hours on average. int8: share of a site's devices whose artifact answers in coarse log-odds. lost, late: shares of
    reports that never come, and that come up to 6 hours late. clock_s: standard deviation of a device's clock.
    """

    sites: int = 1
    devices: int = 20
    frames: int = 600
    dwell_s: float | None = 2.0
    restless: bool = True
    classes: int = 2
    night: float = 0.0
    batches: float = 0.0
    int8: float = 0.0
    lost: float = 0.0
    late: float = 0.0
    clock_s: float = 0.0

    def __post_init__(self) -> None:
        whole = self.sites >= 1 and self.devices >= 1 and 2 <= self.frames <= 65_535 and 2 <= self.classes <= 64
        shares = all(0 <= share <= 1 for share in (self.int8, self.lost, self.late, self.lost + self.late))
        if not (whole and shares and (self.dwell_s is None or self.dwell_s > 0)):
            raise BadInput(
                f"worlds: {self} must have at least one site and device, 2 to 65,535 frames a minute, 2 to 64 classes, "
                "a dwell over 0 and shares of 0 to 1"
            )

    @property
    def rho(self) -> float:
        """Probability that a frame repeats the one before it."""
        return math.exp(-60 / self.frames / self.dwell_s) if self.dwell_s else 0.0

    def coarse(self) -> NDArray[np.bool_]:
        """Which devices (devices of a site,) run the int8 artifact; the others run the exact one."""
        return np.arange(self.devices) < round(self.int8 * self.devices)

    def classifiers(self) -> tuple[Classifier, Classifier]:
        """Of the exact artifact, and of the int8 one."""
        return classifier(self.classes), classifier(self.classes, quantum=QUANTUM)

    def labels(self) -> list[Label]:
        """Names and roles of the classes."""
        if self.classes == 2:
            return [Label("good", "good"), Label("defect", "defect")]
        return [Label("good", "good"), *(Label(f"flaw{k}", "defect") for k in range(1, self.classes))]

    def baseline(self, rng: np.random.Generator, *, coarse: bool = False, images: int = 3000) -> Baseline:
        """Validation counts of an artifact on `images` pictures, half of them good, as its bundle would carry, and the
        true share of each class on an average line."""
        model = self.classifiers()[coarse]
        typical = np.zeros(len(model.joint))
        typical[[GOOD_A, GOOD_B, AMBIGUOUS]] = 0.4925, 0.4925, 0.010
        typical[list(model.defects)] = 0.005 * model.mix
        truth = np.tensordot(typical, model.joint, axes=1)
        prevalence = truth.sum(axis=1)
        sizes = [images - images // 2, *np.full(self.classes - 1, images // 2 // (self.classes - 1))]
        counts = [rng.multinomial(size, row / row.sum()) for size, row in zip(sizes, truth, strict=True)]
        shaped = np.stack(counts).reshape(self.classes, self.classes, -1)
        return Baseline.of(shaped, [float(share) for share in prevalence / prevalence.sum()])


WORLDS: dict[str, World] = {
    "plain": World(),
    "slow": World(frames=60),
    "fast": World(frames=3600),
    "dwell10": World(dwell_s=10.0),
    "slow10": World(frames=60, dwell_s=10.0),
    "fast10": World(frames=3600, dwell_s=10.0),
    "independent": World(dwell_s=None),
    "classes": World(classes=10),
    "shifts": World(night=0.15),
    "batches": World(batches=0.15),
    "int8": World(int8=0.5),
    "lossy": World(lost=0.05, late=0.05),
    "clocks": World(clock_s=3600.0),
}
"""Worlds by name, of one site of 20 devices; the first seven are those of the first benchmark."""


def world_named(name: str, *, devices: int | None = None) -> World:
    """The world of a name, with sites of 20 for `devices` in all: the last site is filled up by the caller's choice.

    >>> world_named("plain", devices=45).sites
    3

    Raises:
        BadInput: there is no such world.
    """
    if name not in WORLDS:
        raise BadInput(f"worlds: no {name!r}; known are {', '.join(WORLDS)}")
    world = WORLDS[name]
    if devices is None:
        return world
    return replace(world, sites=1, devices=devices) if devices < 20 else replace(world, sites=-(-devices // 20))


def affected(devices: int, share: float) -> NDArray[np.bool_]:
    """Which of a site's devices (devices,) have a fault, spread evenly, the first one always unless the share is 0.

    >>> np.flatnonzero(affected(20, 0.1)).tolist()
    [0, 10]
    """
    return np.diff(np.ceil(np.round(np.arange(devices + 1) * share, 9))) > 0


class Line:
    """The harmless change of one site, and the fault, a day at a time.

    Args:
        world, fault: see there.
        onset: (devices,) minute since the start from which the fault holds.
        rng: the only source of chance.
        mix: shares of the defect classes.
    """

    def __init__(
        self, world: World, fault: Fault, onset: NDArray[np.int64], rng: np.random.Generator, mix: Floats
    ) -> None:
        count = world.devices
        self._world, self._fault, self._onset, self._rng, self._mix = world, fault, onset, rng, mix
        self._rate, self._share_b = rng.lognormal(0, 0.3, count), rng.uniform(0.2, 0.8, count)
        self._slow = [_Wander(180, 0.10, 1, rng), _Wander(360, 0.05, count, rng), _Wander(180, 0.05, count, rng)]
        self._batch, self._left = 0.0, 0
        self._day = 0

    def day(self) -> tuple[Floats, NDArray[np.int64]]:
        """Shares (devices, 1440, kinds) of the kinds of parts, and minutes (devices, 1440) since the onset."""
        minute = self._day * DAY + np.arange(DAY)
        self._day += 1
        world, lively = self._world, float(self._world.restless)
        wave = np.sin(2 * np.pi * minute / DAY)
        clock = minute % DAY
        dark = (clock >= NIGHT_FROM) | (clock < NIGHT_TO)
        by_site, by_device, by_bulk = (wander.day() for wander in self._slow)
        change = 0.15 * wave + by_site + by_device + math.log1p(world.night) * dark
        rate = self._rate[:, None] * np.exp(lively * change)
        share_b = np.clip(self._share_b[:, None] + lively * (0.1 * wave + by_bulk + world.night * dark), 0, 1)
        since = minute - self._onset[:, None]
        batch = np.exp(lively * self._batches()) if world.batches else np.ones(DAY)
        return self._shares(rate, rate * batch, share_b, since, dark), since

    def _batches(self) -> Floats:
        """Log rate (1440,) of the batches that follow one another."""
        out = np.empty(DAY)
        at = 0
        while at < DAY:
            if not self._left:
                self._left = int(self._rng.geometric(1 / BATCH_MIN))
                self._batch = float(self._rng.normal(0, self._world.batches))
            take = min(self._left, DAY - at)
            out[at : at + take] = self._batch
            at, self._left = at + take, self._left - take
        return out

    def _shares(
        self, rate: Floats, bad_rate: Floats, share_b: Floats, since: NDArray[np.int64], dark: NDArray[np.bool_]
    ) -> Floats:
        on, fault = since >= 0, self._fault
        ambiguous, defect = 0.010 * rate, 0.005 * bad_rate
        slow = np.clip(since / (14 * DAY), 0, 1)
        more_ambiguous = {"blind": np.where(on, 0.5, 1.0), "changeover": np.where(on, 1.6, 1.0), "dirt": 1 + slow}
        more_defects = {
            "defects3": np.where(on, 3.0, 1.0),
            "blind": np.where(on, 0.1, 1.0),
            "changeover": np.where(on, 1.6, 1.0),
            "burst": np.where(on & (since < BURST_MIN), 8.0, 1.0),
        }
        less_sure = {
            "bulk": 0.5 * on,
            "ramp": np.clip(since / (7 * DAY), 0, 1),
            "changeover": 0.25 * on,
            "dirt": 0.5 * slow,
            "lamp": 0.5 * (on & dark),
        }
        ambiguous = ambiguous * more_ambiguous.get(fault, 1.0)
        defect = defect * more_defects.get(fault, 1.0)
        shifted = less_sure.get(fault, 0.0)
        if fault == "changeover":
            share_b = np.where(on, np.clip(share_b + 0.2, 0, 1), share_b)
        strange = OOD.get(fault, 0.0) * on
        bulk = (1 - np.minimum(ambiguous + defect, 0.9)) * (1 - strange)
        out = np.zeros((*rate.shape, 6 + len(self._mix) - 1))
        out[..., GOOD_A] = bulk * (1 - shifted) * (1 - share_b)
        out[..., GOOD_B] = bulk * (1 - shifted) * share_b
        out[..., AMBIGUOUS] = ambiguous * (1 - strange)
        out[..., STRANGE], out[..., SHIFTED] = strange, bulk * shifted
        mix = np.where(on[..., None], self._mix[::-1], self._mix) if fault == "labels" else self._mix
        by_class = (defect * (1 - strange))[..., None] * mix
        out[..., DEFECT], out[..., 6:] = by_class[..., 0], by_class[..., 1:]
        return out


class _Wander:
    """Ornstein-Uhlenbeck processes in steps of a minute, `tau` minutes long and of standard deviation `sd`."""

    BLOCK = 36

    def __init__(self, tau: float, sd: float, count: int, rng: np.random.Generator) -> None:
        self._keep, self._sd, self._rng = math.exp(-1 / tau), sd, rng
        self._value = rng.normal(0, sd, count)
        ages = np.subtract.outer(np.arange(self.BLOCK), np.arange(self.BLOCK))
        self._mixing = np.where(ages >= 0, self._keep ** np.maximum(ages, 0), 0.0)
        self._fading = self._keep ** np.arange(1, self.BLOCK + 1)

    def day(self) -> Floats:
        """The next 1440 values, (count, 1440)."""
        kick = self._rng.normal(0, self._sd * math.sqrt(1 - self._keep**2), (len(self._value), DAY))
        out = kick.reshape(len(self._value), -1, self.BLOCK) @ self._mixing.T
        for block in range(out.shape[1]):
            out[:, block] += self._value[:, None] * self._fading
            self._value = out[:, block, -1]
        return out.reshape(len(self._value), DAY)
