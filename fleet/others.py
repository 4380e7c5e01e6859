"""The other workers of a store: their devices, what these and ours see together, and what the leader has to know."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from sqlalchemy import select
from sqlalchemy.engine import Connection

from device_agent.detector.normal import Learning
from fleet.abroad import Abroad
from fleet.alerts import Change
from fleet.models import read_models
from fleet.peer_sums import MINUTE_MS, close_minute, closed_minute, read_sums
from fleet.schema import MODEL

if TYPE_CHECKING:
    from fleet.ingest import Ingest

LOOK_MS, FOLLOW_MS, SELDOM_MS = 2_000, 60_000, 600_000
"""How often the leader looks for readings in which there is something to see and for news of devices, and how often
everybody else does for how many devices there are."""


class Others:
    """What a worker exchanges with the others, by the store. `readings`: the last of all devices, for the leader."""

    def __init__(self, ingest: Ingest, tx: Connection) -> None:
        self._ingest, self._leases = ingest, ingest.leases
        self._minute, self._look_ms, self._follow_ms, self._seldom_ms = 0, 0, 0, 0
        self.readings = Abroad(ingest.fleet.readings, ingest.marks)
        if self._leases.leads:
            self.readings.load(tx)

    def turn(self, tx: Connection, now_ms: int) -> list[Change]:
        """With every batch: once a minute the sums of peers, and what others stored of their devices. What this changes
        of alerts, where this is the leader."""
        minute = self._leases.now_ms // MINUTE_MS
        if minute != self._minute:
            self._exchange_sums(tx, minute)
            self._minute = minute
        if abs(now_ms - self._follow_ms) < FOLLOW_MS:
            return []
        self._follow_ms = now_ms
        for model in read_models(tx).values():
            self._ingest.fleet.models.setdefault(model.model, model)
        if self._leases.leads:
            return self._follow(tx, now_ms)
        self._take_up_normals(tx)
        if abs(now_ms - self._seldom_ms) >= SELDOM_MS:
            self._seldom_ms = now_ms
            self._ingest.registry.follow(tx, self._ingest.marks.holds)
        return []

    def look(self, tx: Connection, concerned: set[str], now_ms: int) -> set[str]:
        """Devices of others whose readings are to be looked at again; for the leader."""
        if abs(now_ms - self._look_ms) < LOOK_MS:
            return set()
        self._look_ms = now_ms
        return self.readings.look(tx, concerned)

    def _exchange_sums(self, tx: Connection, minute: int) -> None:
        groups = self._ingest.fleet.peer_groups()
        own = {key: one.sums() for key, one in groups.items()}
        close_minute(tx, self._leases.worker, self._leases.held, minute - 1, own)
        closed = closed_minute(tx, minute)
        if closed is not None:
            for key, one in groups.items():
                one.take_abroad(*read_sums(tx, closed, key, one.width, but=self._leases.worker))

    def _follow(self, tx: Connection, now_ms: int) -> list[Change]:
        ingest, changes = self._ingest, []
        before = ingest.registry.follow(tx, ingest.marks.holds)
        for old in before:
            new = ingest.registry.get(old.device)
            if old.model is not None and new.model != old.model:
                changes += ingest.alerts.calm({old.device}, f"the device now runs model {new.model}", now_ms)
        if ingest.attendance is not None:
            ingest.attendance.follow(before)
        return changes

    def _take_up_normals(self, tx: Connection) -> None:
        """What the leader has learnt of models whose normal was not known."""
        for row in tx.execute(select(MODEL.c.model, MODEL.c.learned).where(MODEL.c.learned.is_not(None))):
            known = self._ingest.fleet.learning.get(row.model)
            if known is None or not known.done:
                learning = msgspec.json.decode(row.learned, type=Learning)
                self._ingest.fleet.learning[row.model] = learning
                if learning.done and (model := self._ingest.fleet.models.get(row.model)) is not None:
                    self._ingest.must_store(self._ingest.fleet.renew(model))
