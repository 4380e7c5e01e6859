"""The devices' own references at work: begun with a device, learnt when it is time, begun anew when they must be."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable

from sqlalchemy import select
from sqlalchemy.engine import Connection

from fleet.detector_fleet import DetectorFleet
from fleet.references import begin, due, forget_model, keep, known, learn, put_off
from fleet.registry import Registry
from fleet.schema import REFERENCE

EVERY_MS = 5_000
SPEND_S = 0.1
"""How often it is looked whether a device may be learnt, and how long that may take: about 50 ms a device."""


class OwnNormal:
    """Knows for which of `mine`, the devices of this worker, a reference is being learnt. Every change is made in the
    caller's transaction."""

    def __init__(
        self,
        fleet: DetectorFleet,
        registry: Registry,
        clock_s: Callable[[], float] = time.monotonic,
        *,
        mine: Callable[[str], bool] = lambda _device: True,
    ) -> None:
        self._fleet, self._registry, self._clock_s, self._mine = fleet, registry, clock_s, mine
        self._begun: dict[str, str] = {}
        self._next_ms = 0

    def load(self, tx: Connection) -> None:
        """Take up what was learnt; before the detector's memory is."""
        rows = tx.execute(select(REFERENCE.c.device, REFERENCE.c.model))
        self._begun = {row.device: row.model for row in rows if self._mine(row.device)}
        for model in set(self._begun.values()):
            watch = self._fleet.watch(model)
            if watch is not None:
                watch.own.update(known(tx, watch.streams, model, self._begun))

    def hear(self, tx: Connection, devices: Iterable[str], now_ms: int) -> None:
        """Begin with those that speak for a model for the first time."""
        fresh, known, begun = {}, self._registry.devices, self._begun.get
        for device in devices:
            model = known[device].model
            if begun(device) != model and model is not None:
                fresh[device] = model
        self._begin(tx, fresh, now_ms)

    def restart(self, tx: Connection, devices: Collection[str], now_ms: int, *, learnt: bool = True) -> None:
        """Begin anew: what these devices were is not what they are. Without `learnt` only those that are still learnt:
        something was found in the days that should be healthy ones."""
        models = {device: self._registry.get(device).model for device in devices}
        self._begin(
            tx,
            {
                device: model
                for device, model in models.items()
                if model is not None and (learnt or not self._has(device, model))
            },
            now_ms,
        )

    def _has(self, device: str, model: str) -> bool:
        watch = self._fleet.watch(model)
        return watch is not None and device in watch.own

    def forget_model(self, tx: Connection, model: str) -> None:
        """Another baseline of a model: its devices are learnt anew."""
        forget_model(tx, model, sorted(device for device, other in self._begun.items() if other == model))
        self._begun = {device: other for device, other in self._begun.items() if other != model}

    def learn(self, tx: Connection, now_ms: int) -> list[str]:
        """Learn devices whose time has come, as many as there is time for; those that are judged by their own from now
        on."""
        if 0 <= self._next_ms - now_ms <= EVERY_MS:
            return []
        self._next_ms = now_ms + EVERY_MS
        learnt: list[str] = []
        end_s = self._clock_s() + SPEND_S
        for device, model, since_ms in due(tx, now_ms, mine=self._mine):
            watch = self._fleet.watch(model)
            if self._registry.get(device).model != model or watch is None:
                put_off(tx, device, model, now_ms)
                continue
            reference = learn(tx, device, model, watch.streams, since_ms)
            if reference is None:
                put_off(tx, device, model, now_ms)
            else:
                keep(tx, device, model, since_ms, reference, now_ms)
                self._fleet.adopt(device, model, reference)
                learnt.append(device)
            if self._clock_s() > end_s:
                break
        return learnt

    def _begin(self, tx: Connection, models: dict[str, str], now_ms: int) -> None:
        begin(tx, models.items(), now_ms)
        self._begun.update(models)
        for device, model in models.items():
            watch = self._fleet.watch(model)
            if watch is not None and device in watch.own:
                self._fleet.adopt(device, model, None)
