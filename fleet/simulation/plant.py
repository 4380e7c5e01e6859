"""Devices of a world: who they are, what they run, and their reports minute by minute."""

from __future__ import annotations

import heapq
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from device_agent.contract import topics
from device_agent.contract.codec import SCHEMA, encode
from device_agent.contract.errors import BadInput
from device_agent.contract.histogram import BINS, ConfidenceHistogram
from device_agent.contract.report import BACKFILL, CLOCK_SYNCED, DeviceReport, ImageQuality, System
from device_agent.contract.session import Birth
from fleet.models import Model
from fleet.registry import Device
from fleet.worlds import DAY, Day, Fault, World, simulate_sites, site_rng
from fleet.worlds import affected as spread

MODELS = (b"sim-fp32", b"sim-int8")
A_SITE = 20
STOCK = 1_000
"""Devices whose counts are drawn; further ones repeat them."""
DIM = {"bulk", "ramp", "dirt", "lamp", "ood20"}


class Said(NamedTuple):
    """A report on its way: number of its device and its sequence, from 1; the payload; `late`: not in its minute."""

    device: int
    sequence: int
    payload: bytes
    late: bool


class SimulatedFleet:
    """A world as a fleet of devices `sim-000000`, `sim-000001`, ... in sites of 20.

    Args:
        world: what moves; its number of sites does not count.
        devices: 1 to 1,000,000. Counts of `STOCK` devices are drawn, further ones repeat them.
        seed: of everything.
        fault: what goes wrong, on the share `affected` of the devices of each site.
        onset_min: minute since the start from which it does.
        affected: 0 to 1.
        interval_ms: of a report, which tells of one minute of the world whatever it is.

    Raises:
        BadInput: a number out of its range, or a fault that the world cannot have.
    """

    def __init__(
        self,
        world: World,
        devices: int,
        seed: int,
        *,
        fault: Fault = "none",
        onset_min: int = 0,
        affected: float = 1.0,
        interval_ms: int = 60_000,
    ) -> None:
        if not 1 <= devices <= 1_000_000 or not 0 <= affected <= 1 or interval_ms < 1:
            raise BadInput(
                f"simulation: {devices} devices, {affected} affected, {interval_ms} ms a report: must be 1 to "
                "1,000,000, 0 to 1, and at least 1"
            )
        self.world, self.devices, self.seed = replace(world, sites=1, devices=min(devices, A_SITE)), devices, seed
        self.fault, self.onset_min, self.interval_ms = fault, onset_min, interval_ms
        self._sick = spread(self.world.devices, affected)
        self._rng = np.random.default_rng([seed, 1 << 32])
        self._clock_off_ms = self._rng.normal(0, world.clock_s * 1000, devices).astype(np.int64)
        self._coarse = self.world.coarse()

    def name(self, device: int) -> str:
        """Of device number `device`."""
        return f"sim-{device:06d}"

    def epoch(self, device: int) -> int:
        """Of the device's spool; another one for each seed."""
        return zlib.crc32(f"{self.seed}/{self.name(device)}".encode()) or 1

    def model(self, device: int) -> bytes:
        """Id of the artifact that the device runs."""
        return MODELS[int(self._coarse[device % len(self._coarse)])]

    def topic(self, device: int, kind: str) -> str:
        """On which the device publishes messages of a kind."""
        return topics.up(self.name(device), kind)

    def models(self) -> list[Model]:
        """The artifacts, with baselines as their bundle would carry."""
        return [
            Model(
                model=model.hex(),
                name=f"simulated {precision}",
                runtime="litert",
                precision=precision,
                labels=self.world.labels(),
                baseline=self.world.baseline(np.random.default_rng([self.seed, 2]), coarse=coarse),
            )
            for model, precision, coarse in zip(MODELS, ("fp32", "int8"), (False, True), strict=True)
        ]

    def places(self) -> list[Device]:
        """Sites of 20 devices, five lines each."""
        return [
            Device(device=self.name(k), site=f"site-{k // A_SITE:04d}", line=str(k % 5), product="plate", imported=True)
            for k in range(self.devices)
        ]

    def birth(self, device: int, *, boot: int = 1) -> Birth:
        """What a device says when it connects."""
        return Birth(
            schema=SCHEMA,
            epoch=self.epoch(device),
            boot=boot,
            agent="simulated",
            model=self.model(device),
            model_name="simulated",
            labels=[label.name for label in self.world.labels()],
            runtime="litert",
            interval_ms=self.interval_ms,
            hardware="simulated",
            clock_synced=self.world.clock_s == 0,
        )

    def minutes(self, days: int, *, start_ms: int, skip: int = 0) -> Iterator[list[Said]]:
        """What arrives in each minute of `days` days, reports that come late in the minute in which they come; after
        the last day those that are still on their way, in one list.

        Args:
            start_ms: wall clock at the start; report k tells of the interval that ends k intervals later.
            skip: minutes from the start that need not be said again.
        """
        waiting: list[tuple[int, int, Said]] = []
        number = 0
        for day in self._days(days):
            kinds = len(day.counts)
            for minute in range(DAY):
                number += 1
                said = []
                for device in range(self.devices):
                    delay = 0 if day.delay_min is None else int(day.delay_min[device % kinds, minute])
                    if number <= skip or delay < 0:
                        continue
                    payload = self._report(device, number, day, device % kinds, minute, start_ms, late=delay > 0)
                    one = Said(device, number, payload, delay > 0)
                    if delay:
                        heapq.heappush(waiting, (number + delay, device, one))
                    else:
                        said.append(one)
                while waiting and waiting[0][0] <= number:
                    said.append(heapq.heappop(waiting)[2])
                yield said
        if waiting:
            yield [heapq.heappop(waiting)[2] for _ in range(len(waiting))]

    def _days(self, days: int) -> Iterator[Day]:
        sites = -(-min(self.devices, STOCK) // self.world.devices)
        onset = np.where(self._sick, self.onset_min, np.iinfo(np.int64).max // 2)
        rngs = [site_rng(self.seed, site) for site in range(sites)]
        fault: Fault = self.fault if self._sick.any() else "none"
        return simulate_sites(self.world, days, rngs, fault=fault, onset=np.tile(onset, sites))

    def _report(
        self, device: int, sequence: int, day: Day, row: int, minute: int, start_ms: int, *, late: bool
    ) -> bytes:
        counts, frames, at_ms = day.counts[row, minute], self.world.frames, sequence * self.interval_ms
        synced = CLOCK_SYNCED if self.world.clock_s == 0 else 0
        return encode(
            DeviceReport(
                schema=SCHEMA,
                epoch=self.epoch(device),
                sequence=sequence,
                boot=1,
                wall_ms=max(0, start_ms + at_ms + int(self._clock_off_ms[device])),
                monotonic_ms=at_ms,
                interval_ms=self.interval_ms,
                model=self.model(device),
                frames=frames,
                dropped=0,
                parts=max(1, round(frames * (1 - self.world.rho))),
                same=int(day.same[row, minute]),
                identical=int(day.identical[row, minute]),
                histogram=ConfidenceHistogram.of(counts.reshape(-1, BINS)),
                latency=[[3, frames], [5, frames], [14, frames], [0, frames]],
                quality=self._quality(row, sequence),
                system=System(40, 55, False, 90, 4000),
                self_test_ok=True,
                flags=synced | (BACKFILL if late else 0),
            )
        )

    def _quality(self, row: int, sequence: int) -> ImageQuality:
        """Sharpness and brightness fall where a lens is dirty or a lamp fails."""
        dim = self.fault in DIM and sequence > self.onset_min and bool(self._sick[row % len(self._sick)])
        return ImageQuality(110 if dim else 128, 500 if dim else 900, 2)


def phases_s(fleet: SimulatedFleet) -> NDArray[np.float64]:
    """Second of its interval (devices,) in which each device reports: hash(device) mod interval, as agents do."""
    interval_s = fleet.interval_ms / 1000
    hashes = np.array([zlib.crc32(fleet.name(k).encode()) for k in range(fleet.devices)], np.float64)
    return hashes / 2**32 * interval_s
