"""Worlds as streams of days: counts of every device, minute by minute, each site from a random generator of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from fleet.worlds.sampler import AliasTables, Camera
from fleet.worlds.world import FAULTS, Fault, Line, World

LATEST_MIN = 360


class Day(NamedTuple):
    """One day of some devices: counts (devices, 1440, cells) of cells class * 24 + bin, uint16; same and identical
    (devices, 1440) pairs of consecutive frames, int32; delay_min (devices, 1440), int16, minutes after which a report
    comes, -1 for never, None where all come at once."""

    counts: NDArray[np.uint16]
    same: NDArray[np.int32]
    identical: NDArray[np.int32]
    delay_min: NDArray[np.int16] | None = None


def site_rng(seed: int, site: int) -> np.random.Generator:
    """The generator of one site: sites can be simulated apart, in any order, and give the same days.

    >>> bool(site_rng(7, 3).random() == site_rng(7, 3).random())
    True
    """
    return np.random.default_rng([seed, site])


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
        rng: the only source of chance; each site takes a child of it.
        fault: what goes wrong, on every device.
        onset: minute since the start, one or (devices,), from which it does; a change-over is a site's, which ought to
            have one onset.

    Raises:
        BadInput: an unknown fault, or one that the world cannot have.
    """
    return simulate_sites(world, days, rng.spawn(world.sites), fault=fault, onset=onset)


def simulate_sites(
    world: World,
    days: int,
    rngs: Sequence[np.random.Generator],
    *,
    fault: Fault = "none",
    onset: int | NDArray[np.int64] = 0,
) -> Iterator[Day]:
    """As `simulate`, of as many sites as there are generators, see `site_rng`; `world.sites` does not count.

    Raises:
        BadInput: as `simulate`.
    """
    if fault not in FAULTS:
        raise BadInput(f"worlds: unknown fault {fault!r}, one of {', '.join(FAULTS)}")
    if fault == "labels" and world.classes < 3:
        raise BadInput("worlds: fault 'labels' needs a world of several defect classes, as 'classes'")
    start = np.broadcast_to(np.asarray(onset, np.int64), (len(rngs) * world.devices,)).reshape(len(rngs), -1)
    tables = [AliasTables(model.shares) for model in world.classifiers()]
    sites = [_Site(world, fault, own, rng, tables) for own, rng in zip(start, rngs, strict=True)]
    return (_joined([site.day() for site in sites]) for _ in range(days))


def _joined(parts: list[Day]) -> Day:
    if len(parts) == 1:
        return parts[0]
    delays = [part.delay_min for part in parts if part.delay_min is not None]
    return Day(
        np.concatenate([part.counts for part in parts]),
        np.concatenate([part.same for part in parts]),
        np.concatenate([part.identical for part in parts]),
        np.concatenate(delays) if delays else None,
    )


class _Site:
    """One site: its line, and its cameras."""

    def __init__(
        self,
        world: World,
        fault: Fault,
        onset: NDArray[np.int64],
        rng: np.random.Generator,
        tables: list[AliasTables],
    ) -> None:
        self._world, self._fault = world, fault
        of_line, of_cameras, self._roads = rng.spawn(3)
        self._line = Line(world, fault, onset, of_line, world.classifiers()[0].mix)
        self._cameras = [
            Camera(tables[int(coarse)], world.frames, world.rho, own)
            for coarse, own in zip(world.coarse(), of_cameras.spawn(world.devices), strict=True)
        ]
        self._stuck: list[int | None] = [None] * world.devices

    def day(self) -> Day:
        weights, since = self._line.day()
        counts, same = (np.stack(one) for one in zip(*map(Camera.minutes, self._cameras, weights), strict=True))
        identical = np.zeros_like(same)
        if self._fault == "frozen":
            self._freeze(counts, same, identical, since)
        return Day(counts, same, identical, self._delays())

    def _freeze(
        self,
        counts: NDArray[np.uint16],
        same: NDArray[np.int32],
        identical: NDArray[np.int32],
        since: NDArray[np.int64],
    ) -> None:
        """From the onset on one frame: of the cell that is the most usual of the first such day."""
        for device, on in enumerate(since >= 0):
            if on.any():
                if self._stuck[device] is None:
                    self._stuck[device] = int(counts[device].sum(axis=0).argmax())
                counts[device, on] = 0
                counts[device, on, self._stuck[device]] = self._world.frames
                same[device, on] = identical[device, on] = self._world.frames - 1

    def _delays(self) -> NDArray[np.int16] | None:
        world = self._world
        if not world.lost and not world.late:
            return None
        drawn = self._roads.random((world.devices, 1440))
        minutes = self._roads.integers(1, LATEST_MIN + 1, drawn.shape).astype(np.int16)
        return np.where(drawn < world.lost, -1, np.where(drawn < world.lost + world.late, minutes, 0)).astype(np.int16)
