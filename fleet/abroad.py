"""What the leader knows of devices that other workers serve: from the store, some seconds late.

Alerts are made by one worker, the leader, as those of a site stand for devices of many shards. Every worker stores at
once what its detector makes of a device in which there is anything to see, so the leader reads only those.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec
from sqlalchemy import select
from sqlalchemy.engine import Connection

from fleet.reading import Reading
from fleet.schema import DETECTOR, DEVICE
from fleet.shards import ShardMarks

CHUNK = 500


class Abroad(Mapping[str, Reading]):
    """The last readings of all devices: `own` as they are in memory, those of others as the store has them."""

    def __init__(self, own: Mapping[str, Reading], marks: ShardMarks) -> None:
        self._own, self._marks = own, marks
        self._others: dict[str, Reading] = {}
        self._hot: set[str] = set()

    def __getitem__(self, device: str) -> Reading:
        return self._own[device] if device in self._own else self._others[device]

    def __contains__(self, device: object) -> bool:
        return device in self._own or device in self._others

    def __iter__(self) -> Iterator[str]:
        yield from self._own
        yield from (device for device in self._others if device not in self._own)

    def __len__(self) -> int:
        return len(self._own) + sum(device not in self._own for device in self._others)

    def load(self, tx: Connection) -> None:
        """Read all of them, at the start."""
        self._take(_asked(tx))

    def look(self, tx: Connection, concerned: set[str]) -> set[str]:
        """Read those in which there is anything to see, and those that are `concerned` by an open alert or that there
        was something to see in before. The devices that were read."""
        hot = self._take(_asked(tx, DETECTOR.c.hot))
        others = sorted(device for device in (concerned | self._hot) - hot if not self._marks.holds(device))
        for start in range(0, len(others), CHUNK):
            self._take(_asked(tx, DETECTOR.c.device.in_(others[start : start + CHUNK])))
        self._hot = hot
        return hot | {device for device in others if device in self._others}

    def _take(self, rows: Iterator[str]) -> set[str]:
        readings = [msgspec.json.decode(row, type=Reading) for row in rows]
        taken = {one.device: one for one in readings if not self._marks.holds(one.device)}
        self._others |= taken
        return set(taken)


def _asked(tx: Connection, *which: object) -> Iterator[str]:
    """Readings of the models that devices run now."""
    current = (DEVICE.c.device == DETECTOR.c.device) & (DEVICE.c.model == DETECTOR.c.model)
    return iter(tx.scalars(select(DETECTOR.c.reading).join(DEVICE, current).where(*which)))  # type: ignore[arg-type]
