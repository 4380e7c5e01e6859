"""Who is whose peer: devices of one site and product, whatever artifact of the model each of them runs."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
from numpy.typing import NDArray

from device_agent import detector
from device_agent.detector import StreamSet

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]


class PeerGroups:
    """Rows and groups over the sums of `detector.Peers`, for all models whose streams have the same names.

    Counts are compared as ratios to each device's own reference, so an int8 and an fp32 artifact can be peers.
    """

    def __init__(self, streams: StreamSet) -> None:
        self._sums = detector.Peers(streams, 0)
        self._rows: dict[str, int] = {}
        self._ids: dict[Hashable, int] = {}
        self._group = np.zeros(0, np.intp)

    def place(self, devices: list[str], groups: list[tuple[str, str]]) -> Rows:
        """Rows (n,) of the devices, each in its group now."""
        fresh = [device for device in dict.fromkeys(devices) if device not in self._rows]
        for device in fresh:
            self._rows[device] = len(self._rows)
        for group in groups:
            self._ids.setdefault(group, len(self._ids))
        if fresh:
            self._sums.grow(len(fresh))
            self._group = np.concatenate([self._group, np.zeros(len(fresh), np.intp)])
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
        return np.bincount(self._group)[self._group[rows]] - 1

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
