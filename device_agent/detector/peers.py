"""What the other devices of a site and product saw in the same minutes: a change of the line is not a fault of one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from device_agent.detector.evalue import Floats
from device_agent.detector.streams import StreamSet

LIMITS = (0.5, 4.0)
PRIOR_EVENTS = 3.0
NO_GROUP = -1


class Peers:
    """Rates of every device against its own reference over the last windows, and the multiplier M that peers give.

    M = leave-one-out sum x / sum n p0 over the group, shrunk to 1 by a few events and kept within 0.5 to 4. M only ever
    loosens: it raises what is expected of a + stream and lowers that of a - stream, never the other way round, since
    otherwise one dirty lens, which lifts the sum, would make each of its healthy peers look as if it saw too little.
    Of a slow and a fast average the looser one counts, so that an abrupt change-over is followed within minutes.

    Args:
        streams: of the model.
        devices: number of rows.
        windows: time constants of the slow and the fast average, in windows.
    """

    def __init__(self, streams: StreamSet, devices: int, *, windows: tuple[float, float] = (60, 10)) -> None:
        self._up = streams.direction > 0
        self._keep = np.exp(-1 / np.array([*windows, *windows]))[:, None].astype(np.float32)
        self._sums = np.zeros((devices, 4, len(streams.names)), np.float32)
        self._group = np.full(devices, NO_GROUP)
        self._totals = np.zeros((0, *self._sums.shape[1:]))
        self._abroad, self._abroad_devices = np.zeros((0, *self._sums.shape[1:])), np.zeros(0)

    def grow(self, devices: int) -> None:
        """Add rows at the end."""
        self._sums = np.concatenate([self._sums, np.zeros((devices, *self._sums.shape[1:]), np.float32)])
        self._group = np.concatenate([self._group, np.full(devices, NO_GROUP)])

    def reset(self, rows: NDArray[np.intp]) -> None:
        """Forget devices: after a change-over, or with a new reference."""
        self._put(rows, np.zeros((len(rows), *self._sums.shape[1:]), np.float32))

    def state(self, row: int) -> bytes:
        """Memory of one device, of a fixed size for a model."""
        return bytes(self._sums[row].tobytes())

    def restore(self, row: int, memory: bytes) -> None:
        """Take up the memory that `state` gave.

        Raises:
            BadInput: memory of another model.
        """
        size = 16 * len(self._up)
        if len(memory) != size:
            raise BadInput(f"detector: {len(memory)} bytes of peers' memory, this model has {size}")
        self._put(np.array([row]), np.frombuffer(memory, np.float32).reshape(1, 4, -1))

    def update(self, rows: NDArray[np.intp], x: Floats, expected: Floats, phi: Floats) -> None:
        """Take in events x (rows, streams) and expected events n p0 of one window, both weighed by 1 / phi; no row may
        come twice."""
        sums = self._sums[rows] * self._keep
        sums[:, :2] += (x / phi)[:, None]
        sums[:, 2:] += (expected / phi)[:, None]
        self._put(rows, sums)

    def multiplier(self, rows: NDArray[np.intp], group: NDArray[np.intp]) -> Floats:
        """M (rows, streams) for the devices `rows`; nan where a device has no peers.

        Args:
            rows: devices asked for.
            group: (devices,) group of every device of this detector, >= 0: same site and product.
        """
        self._regroup(group)
        mine = group[rows]
        others = self._totals[mine] + self._abroad[mine] - self._sums[rows] + PRIOR_EVENTS
        ratio = others[:, :2] / others[:, 2:]
        looser = np.where(self._up, np.maximum(ratio.max(axis=1), 1), np.minimum(ratio.min(axis=1), 1))
        alone = np.bincount(group, minlength=len(self._totals))[mine] + self._abroad_devices[mine] < 2
        return np.asarray(np.where(alone[:, None], np.nan, np.clip(looser, *LIMITS)))

    def totals(self, group: NDArray[np.intp]) -> Floats:
        """Sums (groups, 4, streams) of all devices of each group: events of the slow and the fast average, then what
        was expected; `group` as for `multiplier`."""
        self._regroup(group)
        return self._totals.copy()

    def take_abroad(self, totals: Floats, devices: Floats) -> None:
        """Sums of further devices of each group that others judge, in the place of those that were given before.

        Args:
            totals: (groups, 4, streams), as `totals` gives them.
            devices: (groups,) how many they are.
        """
        self._make_room(len(totals))
        self._abroad[:], self._abroad_devices[:] = 0, 0
        self._abroad[: len(totals)], self._abroad_devices[: len(totals)] = totals, devices

    def _make_room(self, groups: int) -> None:
        missing = max(groups - len(self._totals), 0)
        blank = np.zeros((missing, *self._totals.shape[1:]))
        self._totals, self._abroad = np.concatenate([self._totals, blank]), np.concatenate([self._abroad, blank])
        self._abroad_devices = np.concatenate([self._abroad_devices, np.zeros(missing)])

    def _regroup(self, group: NDArray[np.intp]) -> None:
        """Count devices in the totals of the groups that they are in now."""
        moved = np.flatnonzero(group != self._group)
        if not len(moved):
            return
        self._make_room(int(group.max()) + 1)
        sums = self._sums[moved]
        self._put(moved, np.zeros_like(sums))
        self._group[moved] = group[moved]
        self._put(moved, sums)

    def _put(self, rows: NDArray[np.intp], sums: NDArray[np.float32]) -> None:
        """New sums of devices, in the totals of their groups too."""
        group, grouped = self._group[rows], np.flatnonzero(self._group[rows] != NO_GROUP)
        if len(grouped):
            order = grouped[np.argsort(group[grouped], kind="stable")]
            change = sums[order].astype(np.float64) - self._sums[rows[order]]
            starts = np.flatnonzero(np.diff(group[order], prepend=NO_GROUP))
            self._totals[group[order][starts]] += np.add.reduceat(change, starts, axis=0)
        self._sums[rows] = sums
