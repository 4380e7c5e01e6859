"""Who is whose peer: devices of one site and product, whatever artifact of the model each of them runs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from device_agent import detector
from device_agent.detector import StreamSet
from fleet.registry import UNASSIGNED

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]
NOBODY = ("", "")
"""The group of rows that no device has yet."""
SPARE = 8
"""Room is made for one device in so many more than there are: a fleet that comes one by one is not copied for each."""


class PeerGroups:
    """Rows and groups over the sums of `detector.Peers`, for all models whose streams have the same names.

    Counts are compared as ratios to each device's own reference, so an int8 and an fp32 artifact can be peers.
    """

    def __init__(self, streams: StreamSet) -> None:
        self._sums = detector.Peers(streams, 0)
        self._shape = (4, len(streams.names))
        self._rows: dict[str, int] = {}
        self._ids: dict[tuple[str, str], int] = {NOBODY: 0}
        self._group = np.zeros(0, np.intp)
        self._abroad = np.zeros(0, np.intp)

    @property
    def width(self) -> int:
        """Numbers of one group in `sums`."""
        return 1 + self._shape[0] * self._shape[1]

    def sums(self) -> tuple[list[tuple[str, str]], Floats]:
        """What devices of each group that stands at a site saw together: groups, and for each of them how many devices
        they are and their sums (groups, width)."""
        totals = self._sums.totals(self._group).reshape(-1, self.width - 1)
        devices = np.bincount(self._group, minlength=len(totals))
        places = ((group, number) for group, number in self._ids.items() if group[0] not in (UNASSIGNED, NOBODY[0]))
        shared = {group: number for group, number in places if devices[number]}
        numbers = list(shared.values())
        return list(shared), np.column_stack([devices[numbers], totals[numbers]])

    def take_abroad(self, groups: list[tuple[str, str]], sums: Floats) -> None:
        """Devices of these groups that other workers judge; those of groups that have none here are nobody's peers."""
        known = [(at, self._ids[group]) for at, group in enumerate(groups) if group in self._ids]
        there, here = [at for at, _ in known], [number for _, number in known]
        totals, devices = np.zeros((len(self._ids), *self._shape)), np.zeros(len(self._ids))
        devices[here] = sums[there, 0]
        totals[here] = sums[there, 1:].reshape(-1, *self._shape)
        self._sums.take_abroad(totals, devices)
        self._abroad = devices.astype(np.intp)

    def place(self, devices: list[str], groups: list[tuple[str, str]]) -> Rows:
        """Rows (n,) of the devices, each in its group now."""
        fresh = [device for device in dict.fromkeys(devices) if device not in self._rows]
        for device in fresh:
            self._rows[device] = len(self._rows)
        for group in groups:
            self._ids.setdefault(group, len(self._ids))
        if (missing := len(self._rows) - len(self._group)) > 0:
            missing += len(self._rows) // SPARE
            self._sums.grow(missing)
            self._group = np.concatenate([self._group, np.zeros(missing, np.intp)])
        rows = np.array([self._rows[device] for device in devices], np.intp)
        self._group[rows] = [self._ids[group] for group in groups]
        return rows

    def observe(self, rows: Rows, seen: Floats, expected: Floats, phi: Floats) -> None:
        """Add one window for each row (rows do not repeat); see `detector.Peers.update`."""
        self._sums.update(rows, seen, expected, phi)

    def factor(self, rows: Rows) -> Floats:
        """M (n, streams); nan for a device without peers."""
        return self._sums.multiplier(rows, self._group)

    def count(self, rows: Rows) -> NDArray[np.intp]:
        """Number of peers (n,) of each row."""
        own, group = np.bincount(self._group), self._group[rows]
        abroad = np.zeros(len(own), np.intp)
        abroad[: len(self._abroad)] = self._abroad[: len(own)]
        return np.asarray(own[group] - 1 + abroad[group])

    def forget(self, device: str) -> None:
        """Take the sums of a device out: after a change-over, or with a new model."""
        if device in self._rows:
            self._sums.reset(np.array([self._rows[device]], np.intp))

    def state(self, device: str) -> bytes:
        """What to remember of a device."""
        return self._sums.state(self._rows[device])

    def restore(self, device: str, memory: bytes) -> None:
        """Take up what `state` gave; the device is placed already."""
        self._sums.restore(self._rows[device], memory)
