"""What the other devices of a site and product saw in the same minutes: a change of the line is not a fault of one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from device_agent.detector.evalue import Floats
from device_agent.detector.streams import StreamSet

LIMITS = (0.5, 4.0)
PRIOR_EVENTS = 3.0


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
        self._keep = np.exp(-1 / np.array(windows))[:, None, None]
        self._seen = np.zeros((2, devices, len(streams.names)))
        self._expected = np.zeros((2, devices, len(streams.names)))

    def grow(self, devices: int) -> None:
        """Add rows at the end."""
        more = np.zeros((2, devices, self._seen.shape[2]))
        self._seen = np.concatenate([self._seen, more], axis=1)
        self._expected = np.concatenate([self._expected, more], axis=1)

    def reset(self, rows: NDArray[np.intp]) -> None:
        """Forget devices: after a change-over, or with a new reference."""
        self._seen[:, rows] = self._expected[:, rows] = 0

    def state(self, row: int) -> bytes:
        """Memory of one device, of a fixed size for a model."""
        return np.concatenate([self._seen[:, row], self._expected[:, row]]).astype(np.float32).tobytes()

    def restore(self, row: int, memory: bytes) -> None:
        """Take up the memory that `state` gave.

        Raises:
            BadInput: memory of another model.
        """
        size = 16 * len(self._up)
        if len(memory) != size:
            raise BadInput(f"detector: {len(memory)} bytes of peers' memory, this model has {size}")
        sums = np.frombuffer(memory, np.float32).reshape(4, -1)
        self._seen[:, row], self._expected[:, row] = sums[:2], sums[2:]

    def update(self, rows: NDArray[np.intp], x: Floats, expected: Floats, phi: Floats) -> None:
        """Take in events x (rows, streams) and expected events n p0 of one window, both weighed by 1 / phi."""
        self._seen[:, rows] = self._seen[:, rows] * self._keep + x / phi
        self._expected[:, rows] = self._expected[:, rows] * self._keep + expected / phi

    def multiplier(self, rows: NDArray[np.intp], group: NDArray[np.intp]) -> Floats:
        """M (rows, streams) for the devices `rows`; nan where a device has no peers.

        Args:
            rows: devices asked for.
            group: (devices,) group of every device of this detector, >= 0: same site and product.
        """
        groups = int(group.max()) + 1 if len(group) else 0
        size = np.bincount(group, minlength=groups)
        mine = group[rows]
        looser = np.full((len(rows), len(self._up)), 1.0)
        for seen, expected in zip(self._seen, self._expected, strict=True):
            x, e = np.zeros((groups, len(self._up))), np.zeros((groups, len(self._up)))
            np.add.at(x, group, seen)
            np.add.at(e, group, expected)
            ratio = (x[mine] - seen[rows] + PRIOR_EVENTS) / (e[mine] - expected[rows] + PRIOR_EVENTS)
            looser = np.where(self._up, np.maximum(looser, ratio), np.minimum(looser, ratio))
        return np.asarray(np.where((size[mine] > 1)[:, None], np.clip(looser, *LIMITS), np.nan))
