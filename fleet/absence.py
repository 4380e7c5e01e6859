"""Who does not speak, or speaks again and again: devices that are silent or flapping, and sites where most of them are.

Pure functions over arrays. Times are ms of a clock that nobody sets, so a step of the wall clock is no silence. Only
time in which the monitor itself listened counts, from the last break of its broker or of its own: what came before a
break says nothing of what comes after it.

A device that lost its connection waits up to `RECONNECT_MS` until it tries again, so shorter silences are no finding.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MISSED = 5
RECONNECT_MS, LATE_MS = 300_000, 30_000
SITE_SHARE, SITE_DEVICES = 0.5, 3
FLAPS, FLAPS_OVER, FLAP_TAU_MS = 5.0, 1.5, 1_800_000
CONNECTIONS = 65_536
NEVER = -(2**62)
"""As the time of a report that never came."""

Times = NDArray[np.int64]
Flags = NDArray[np.bool_]
Rows = NDArray[np.intp]
Floats = NDArray[np.float64]


class Judged(NamedTuple):
    """`alone` (n,): devices that are found for themselves; `covered` (n,): those for which their site stands; `sites`
    (m,): sites that are found; `near` and `over` (n,): devices that are at least half way, and all the way there."""

    alone: Flags
    covered: Flags
    sites: Flags
    near: Flags
    over: Flags


class SiteCounts(NamedTuple):
    """Devices of each site (m,): those that should be there, those half way to a finding, and those over it."""

    due: Times
    near: Times
    over: Times


def silence_limit_ms(interval_ms: Times) -> Times:
    """Silence (n,) in ms after which a device with this report interval (n,) is found: some missed reports, and never
    less than a device may take to connect again.

    >>> silence_limit_ms(np.array([1_000, 60_000, 600_000])).tolist()
    [330000, 330000, 3030000]
    """
    return np.asarray(np.maximum(MISSED * interval_ms, RECONNECT_MS) + LATE_MS, np.int64)


def silence_ms(last_ms: Times, listening_ms: int, now_ms: int) -> Times:
    """For how long (n,) in ms was listened without hearing a report.

    Args:
        last_ms: (n,) when the last report came, live or late, `NEVER` where none did.
        listening_ms: since when the monitor listens without a break.
        now_ms: until when it did.

    >>> silence_ms(np.array([NEVER, 10, 70]), 50, 90).tolist()
    [40, 40, 20]
    """
    return np.asarray(np.maximum(now_ms - np.maximum(last_ms, listening_ms), 0), np.int64)


def count_connections(before: Times, session: Times) -> Times:
    """Connections (n,) from session id to session id (n,): of one boot those in between too, of another at least one; 0
    for the same session, an older one, or where there was none before (-1).

    >>> at = np.array([-1, 65_536, 65_540, 65_540, 65_541])
    >>> count_connections(at, np.array([65_536, 65_539, 65_540, 131_073, 65_540])).tolist()
    [0, 3, 0, 1, 0]
    """
    same_boot = before // CONNECTIONS == session // CONNECTIONS
    more = np.where(same_boot, session - before, 1)
    return np.where((before >= 0) & (session > before), np.minimum(more, round(FLAPS)), 0)


def faded(count: Floats, since_ms: Times | int) -> Floats:
    """What counts (n,) of connections are worth `since_ms` (n,) later.

    >>> faded(np.array([8.0]), FLAP_TAU_MS).round(2).tolist()
    [2.94]
    """
    return count * np.exp(-np.maximum(since_ms, 0) / FLAP_TAU_MS)


def is_silent(silence: Times, limit_ms: Times, last_ms: Times, listening_ms: int, was: Flags) -> tuple[Flags, Flags]:
    """Devices (n,) that are half way to silent, and those that are. One that `was` silent before a break stays so until
    it is heard: a break is no sign of life."""
    still = was & (last_ms < listening_ms)
    return still | (silence > limit_ms // 2), still | (silence > limit_ms)


def is_flapping(connections: Floats, was: Flags) -> tuple[Flags, Flags]:
    """Devices (n,) that are half way to flapping, and those that are; one that was stays so until it is nearly over."""
    return connections > FLAPS / 2, (connections >= FLAPS) | (was & (connections >= FLAPS_OVER))


def count_sites(near: Flags, over: Flags, due: Flags, site: Rows, sites: int) -> SiteCounts:
    """How many devices of each site there are.

    Args:
        near, over: (n,) see `is_silent`.
        due: (n,) whether the device should be there: it was heard before and did not end in order.
        site: (n,) number of each device's site, -1 for one that stands alone.
        sites: m.
    """
    placed = due & (site >= 0)
    counts = [np.bincount(site[placed & one], minlength=sites).astype(np.int64) for one in (due, near, over)]
    return SiteCounts(*counts)


def judge(near: Flags, over: Flags, due: Flags, site: Rows, counts: SiteCounts, held: Flags) -> Judged:
    """Which devices are found for themselves, and for which their site is found: most of its devices are at least half
    way there, at least `SITE_DEVICES` of them, and one is all the way. So the first of a site whose time is over
    does not raise a finding of its own.

    Args:
        near, over, due, site: see `count_sites`.
        counts: of the sites (m,), those of other workers included.
        held: (m,) sites that were found before, and are not given up yet: they stand while anything is over.
    """
    most = (counts.near > SITE_SHARE * counts.due) & (counts.near >= SITE_DEVICES)
    sites = (most | held) & (counts.over > 0)
    inside = np.zeros(len(site), np.bool_)
    placed = site >= 0
    inside[placed] = sites[site[placed]]
    return Judged(over & due & ~inside, near & due & inside, sites, near & due, over & due)
