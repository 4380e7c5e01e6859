"""The references of all devices of a model: each kept once, in a few bytes, however many devices share it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_agent.detector.evalue import Floats
from device_agent.detector.packed import NO_PHI, pack_phi, pack_rate, pack_sum, unpack_phi, unpack_rate, unpack_sum
from device_agent.detector.reference import Reference

Rows = NDArray[np.intp]


SHARED = 16
READ: dict[str, Callable[[Any], Any]] = {
    "p0": unpack_rate,
    "bound": unpack_rate,
    "phi": unpack_phi,
    "agree": unpack_rate,
    "same": unpack_rate,
    "longest": unpack_sum,
    "armed": np.asarray,
}


class ReferenceTable:
    """References of devices, a row each; reads like the `Reference` of all of them, rounded as `packed` says.

    The first 16 different ones are shared by all devices that have them, as those of a model on its first day are;
    later ones are each a device's own.

    Args:
        reference: one row for each device.
    """

    def __init__(self, reference: Reference) -> None:
        streams = reference.p0.shape[1]
        self._kind = np.dtype(
            [("p0", np.uint16, streams), ("bound", np.uint16, streams), ("phi", np.uint8, streams)]
            + [(name, np.uint16) for name in ("agree", "same", "longest")]
            + [("armed", np.bool_)]
        )
        self._kept = np.zeros(2 * SHARED, self._kind)
        self._learns = np.zeros(len(self._kept), np.bool_)
        self._shared, self._end = 0, SHARED
        self._free: list[int] = []
        self._which = np.zeros(0, np.int32)
        self.grow(reference)

    def __len__(self) -> int:
        return len(self._which)

    @property
    def row_bytes(self) -> int:
        """Size of a reference that is a device's own, with the index of it."""
        return int(self._kind.itemsize + self._learns.itemsize + self._which.itemsize)

    @property
    def own(self) -> int:
        """Number of references that are a device's own."""
        return self._end - SHARED - len(self._free)

    def grow(self, reference: Reference) -> None:
        """Add a device for each row of `reference`."""
        first = len(self._which)
        self._which = np.concatenate([self._which, np.zeros(len(reference), np.int32)])
        self.put(np.arange(first, len(self._which)), reference)

    def put(self, rows: Rows, reference: Reference) -> None:
        """Another reference for each of some rows; a row comes once."""
        packed = self._pack(reference)
        whole = packed.view(np.dtype((np.void, packed.itemsize)))
        kept = self._kept[:SHARED].view(whole.dtype)
        places = np.full(len(rows), -1, np.int32)
        for slot in range(SHARED):
            if slot == self._shared:
                missing = np.flatnonzero(places < 0)[:1]
                if not len(missing):
                    break
                kept[slot] = whole[missing[0]]
                self._learns[slot] = (packed[missing[0]]["phi"] == NO_PHI).any()
                self._shared += 1
            places[whole == kept[slot]] = slot
        before = self._which[rows]
        alone = places < 0
        self._free += before[~alone & (before >= SHARED)].tolist()
        places[alone] = np.where(before[alone] >= SHARED, before[alone], -1)
        places[places < 0] = self._room(int((places < 0).sum()))
        self._kept[places[alone]] = packed[alone]
        self._learns[places[alone]] = (packed["phi"][alone] == NO_PHI).any(axis=1)
        self._which[rows] = places

    def _room(self, count: int) -> list[int]:
        """Places for so many references."""
        reused, self._free = self._free[:count], self._free[count:]
        first, self._end = self._end, self._end + count - len(reused)
        if self._end > len(self._kept):
            self._kept = np.concatenate([self._kept, np.zeros(self._end, self._kind)])
            self._learns = np.concatenate([self._learns, np.zeros(self._end, np.bool_)])
        return [*reused, *range(first, self._end)]

    def take(self, rows: Rows) -> Reference:
        """The rows asked for."""
        return Reference(**{field.name: self.column(field.name, rows) for field in fields(Reference)})

    def column(self, name: str, rows: Rows) -> Any:
        """One field of the `Reference` of the rows asked for."""
        return READ[name](self._kept[name][self._which[rows]])

    def one(self, rows: Rows, stream: NDArray[np.intp]) -> tuple[Floats, Floats]:
        """p0 and phi (n,) of one stream of each row."""
        which = self._which[rows]
        return unpack_rate(self._kept["p0"][which, stream]), unpack_phi(self._kept["phi"][which, stream])

    def learns(self, rows: Rows) -> NDArray[np.bool_]:
        """Whether the over-dispersion of some stream of the rows is not known, but learnt from pairs, (n,)."""
        return np.asarray(self._learns[self._which[rows]])

    def columns(self) -> tuple[NDArray[np.int32], NDArray[np.uint16], NDArray[np.uint16], NDArray[np.uint8]]:
        """Index (devices,) of each device's reference, and packed p0, bound and phi (references, streams)."""
        return self._which, self._kept["p0"], self._kept["bound"], self._kept["phi"]

    def __getattr__(self, name: str) -> Any:
        """A field of the `Reference` of all devices."""
        if name in READ:
            return self.column(name, np.arange(len(self)))
        raise AttributeError(name)

    def _pack(self, reference: Reference) -> NDArray[np.void]:
        packed = np.zeros(len(reference), self._kind)
        for name in ("p0", "bound", "agree", "same"):
            packed[name] = pack_rate(getattr(reference, name))
        packed["phi"] = pack_phi(reference.phi)
        packed["longest"] = pack_sum(reference.longest, 0.999)
        packed["armed"] = reference.armed
        return packed
