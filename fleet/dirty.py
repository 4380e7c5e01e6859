"""What the store does not have yet of the monitor's memory, and in which order it gets it.

Reports are stored at once. What follows from them, a device's counters, watermarks and the detector's memory, can be
had again from the reports, so it is stored a part at a time. A group of peers is stored together: what one of them is
judged by depends on the others.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable

LEAST, SHARE = 100, 16
"""Devices that are stored in one batch: so many at least, and one for so many reports of it, so that not too much is
fed again after a kill."""
FRESH_MS, LONGEST_MS, GAP_MS = 20_000, 120_000, 10_000
"""All devices are stored within two of their intervals and so long, so that none looks silent in the store; the longest
time that this may be, and what counts as time between two batches at most."""


class Dirty:
    """Devices whose memory is ahead of the store. `group_of` says with whom a device is stored."""

    def __init__(self, group_of: Callable[[str], Hashable]) -> None:
        self._group_of = group_of
        self._waiting: dict[Hashable, tuple[int, set[str]]] = {}
        self._now: set[Hashable] = set()
        self._at_ms = 0

    def touch(self, devices: Iterable[str], batch: int) -> None:
        """They changed with this batch by nothing but reports."""
        for device in devices:
            group = self._group_of(device)
            waiting = self._waiting.get(group)
            if waiting is None:
                self._waiting[group] = (batch, {device})
            else:
                waiting[1].add(device)

    def must(self, devices: Iterable[str], batch: int) -> None:
        """They changed by something that no report tells: they are stored with this batch."""
        devices = list(devices)
        self.touch(devices, batch)
        self._now.update(self._group_of(device) for device in devices)

    def budget(self, reports: int, devices: int, interval_ms: int, now_ms: int) -> int:
        """How many of `devices`, which report every `interval_ms` at the fastest, are to be stored with a batch of so
        many `reports`."""
        passed_ms, self._at_ms = min(max(now_ms - self._at_ms, 0), GAP_MS), now_ms
        fresh_ms = min(FRESH_MS + 2 * interval_ms, LONGEST_MS)
        return max(LEAST, reports // SHARE, devices * passed_ms // fresh_ms)

    def take(self, budget: int = LEAST) -> list[str]:
        """Devices that are to be stored now: those that must be, then those that have waited longest, whole groups
        each, until there are `budget` of them."""
        groups = [group for group in self._now if group in self._waiting]
        taken = [device for group in groups for device in sorted(self._waiting.pop(group)[1])]
        self._now.clear()
        for group in list(self._waiting):
            if len(taken) >= budget:
                break
            taken += sorted(self._waiting.pop(group)[1])
        return list(dict.fromkeys(taken))  # one that moved may have waited in two groups

    def clean(self, batch: int) -> int:
        """The number of a batch up to which the store has everything; `batch` is the last one."""
        oldest = next(iter(self._waiting.values()), None)
        return batch if oldest is None else oldest[0] - 1
