"""Roll call: what the monitor remembers of who spoke when, and what it finds of silent and flapping devices."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fleet.absence import (
    NEVER,
    Flags,
    Judged,
    Rows,
    SiteCounts,
    count_connections,
    count_sites,
    faded,
    is_flapping,
    is_silent,
    judge,
    silence_limit_ms,
    silence_ms,
)
from fleet.wording import say_time

BREAK_MS = 10_000
"""Between two turns of a monitor that runs; more, and it did not listen meanwhile."""
BACK_MS = 330_000
"""For which a site is held after most of its devices are back, as they come back one by one."""
Kind = Literal["silent", "flapping"]
KINDS: tuple[Kind, ...] = ("silent", "flapping")
Key = tuple[str, str, str]


class Absence(NamedTuple):
    """A finding; the fields are those that an alert is made of. `onset_ms` is wall-clock ms."""

    stream: Kind
    scope_kind: Literal["device", "site"]
    scope: str
    onset_ms: int
    text: str
    cause: str
    devices: list[str]
    severity: Literal["warn"] = "warn"

    @property
    def key(self) -> Key:
        """What it is found of."""
        return (self.stream, self.scope_kind, self.scope)


class Found(NamedTuple):
    """Findings that hold, and those that are over since they were asked for last."""

    held: list[Absence]
    over: list[Absence]


class _Row(NamedTuple):
    """One device, as it is put into the arrays."""

    last_ms: int
    wall_ms: int
    interval_ms: int
    session: int
    flaps: float
    flaps_ms: int
    site: int
    due: bool
    online: bool
    silent: bool
    flapping: bool


_DTYPE = np.dtype(
    [(name, {int: np.int64, float: np.float64, bool: np.bool_}[kind]) for name, kind in
     zip(_Row._fields, (int, int, int, int, float, int, int, bool, bool, bool, bool), strict=True)]
)  # fmt: skip


class Presence:
    """All devices of a worker. `now_ms` is always of a clock that nobody sets, `wall_ms` of the one on the wall.

    Nothing is found while the monitor does not listen, and for `silence_limit_ms` afterwards.
    """

    def __init__(self, now_ms: int) -> None:
        self._listening_ms, self._turn_ms, self._hearing = now_ms, now_ms, False
        self._rows: dict[str, int] = {}
        self._names: list[str] = []
        self._sites: dict[str, int] = {}
        self._table = np.zeros(0, _DTYPE)
        self._until: dict[Kind, dict[int, int]] = {"silent": {}, "flapping": {}}
        self._held: dict[Key, Absence] = {}

    def know(
        self,
        device: str,
        *,
        site: str,
        interval_ms: int,
        due: bool,
        wall_ms: int,
        session: int = -1,
        online: bool = True,
    ) -> None:
        """Take up a device of the registry, or what changed of it.

        Args:
            site: where it stands; empty for a device without a place, which stands alone.
            due: whether it should report: it was heard before, and did not say that it ended.
            wall_ms: its last report.
            session: the last that was heard of, -1 where none was.
        """
        number = self._sites.setdefault(site, len(self._sites)) if site else -1
        if (row := self._rows.get(device)) is None:
            row = self._rows[device] = len(self._names)
            self._names.append(device)
            if row == len(self._table):
                self._table = np.concatenate([self._table, np.zeros(max(64, row), _DTYPE)])
            self._table[row] = _Row(NEVER, wall_ms, 0, session, 0.0, 0, 0, due, online, False, False)
        one = self._table[row]
        one["interval_ms"], one["site"], one["due"] = interval_ms, number, due

    def take_up(self, stream: Kind, scope_kind: str, scope: str, onset_ms: int, devices: Iterable[str]) -> None:
        """A finding whose alert is open from before: it holds until there is a sign that it is over."""
        kind: Literal["device", "site"] = "site" if scope_kind == "site" else "device"
        known = [device for device in devices if device in self._rows]
        self._table[stream][[self._rows[device] for device in known]] = True
        if stream == "flapping":
            self._table["flaps"][[self._rows[device] for device in known]] = 2.5
            self._table["flaps_ms"][[self._rows[device] for device in known]] = self._turn_ms
        absence = Absence(stream, kind, scope, onset_ms, "", "", known)
        self._held[absence.key] = absence
        if kind == "site" and scope in self._sites:
            self._until[stream][self._sites[scope]] = self._turn_ms + BACK_MS

    def hear_reports(self, devices: Iterable[str], now_ms: int, wall_ms: int) -> None:
        """Reports came, live or late, of devices that are known."""
        rows = np.array([self._rows[device] for device in devices], np.intp)
        if len(rows):
            self._table["last_ms"][rows], self._table["wall_ms"][rows] = now_ms, wall_ms
            self._table["due"][rows], self._table["online"][rows] = True, True

    def hear_state(self, device: str, session: int, *, online: bool, ended: bool, now_ms: int) -> None:
        """A state came, also a last will, of a device that is known; `ended`: it said that it ends."""
        one = self._table[self._rows[device]]
        before = int(one["session"])
        if session < before:
            return
        if self._listening_ms + BACK_MS <= now_ms:  # else the break made it connect again
            more = int(count_connections(np.array([before]), np.array([session]))[0])
            one["flaps"] = faded(np.array([one["flaps"]]), now_ms - int(one["flaps_ms"]))[0] + more
            one["flaps_ms"] = now_ms
        one["session"], one["online"] = session, online
        due = not ended and bool(one["due"] or online)
        if due and not one["due"]:
            one["last_ms"] = now_ms  # from now on reports are missed
        one["due"] = due

    def start_sessions(self, device: str) -> None:
        """The device counts its sessions from the start: it has another spool."""
        self._table[self._rows[device]]["session"] = -1

    def turn(self, now_ms: int, *, hearing: bool) -> None:
        """Say at every turn whether the monitor hears (it has its broker, and its store takes what comes)."""
        if not hearing or now_ms - self._turn_ms > BREAK_MS:
            self._listening_ms = now_ms
        self._turn_ms, self._hearing = now_ms, hearing

    def counts(self, stream: Kind) -> dict[str, tuple[int, int, int]]:
        """Devices of each site that are due, half way to a finding, and over it: what other workers have to know."""
        near, over, table = self._look(stream)
        counts = count_sites(near, over, table["due"], table["site"], len(self._sites))
        return {site: (int(counts.due[k]), int(counts.near[k]), int(counts.over[k])) for site, k in self._sites.items()}

    def find(
        self,
        *,
        elsewhere: Callable[[Kind], dict[str, tuple[int, int, int]]] = lambda _kind: {},
        speaks_for: Callable[[str], bool] = lambda _site: True,
    ) -> Found:
        """What holds now, and what is over. While nothing is heard both stay as they were.

        Args:
            elsewhere: `counts` of all other workers together.
            speaks_for: whether this worker, and no other, tells of a site.
        """
        if not self._hearing:
            return Found(list(self._held.values()), [])
        held: dict[Key, Absence] = {}
        for stream in KINDS:
            for absence in self._find(stream, elsewhere(stream), speaks_for):
                held[absence.key] = absence
        mine = {key for key in self._held if key[1] == "device" or speaks_for(key[2])}
        over = [absence for key, absence in self._held.items() if key in mine and key not in held]
        self._held = held
        return Found(list(held.values()), over)

    def _look(self, stream: Kind) -> tuple[Flags, Flags, NDArray[np.void]]:
        table = self._table[: len(self._names)]
        if stream == "flapping":
            count = faded(table["flaps"], self._turn_ms - table["flaps_ms"])
            return *is_flapping(count, table["flapping"]), table
        silence = silence_ms(table["last_ms"], self._listening_ms, self._turn_ms)
        limit = silence_limit_ms(table["interval_ms"])
        return *is_silent(silence, limit, table["last_ms"], self._listening_ms, table["silent"]), table

    def _find(
        self, stream: Kind, others: dict[str, tuple[int, int, int]], speaks_for: Callable[[str], bool]
    ) -> list[Absence]:
        for name in others:
            self._sites.setdefault(name, len(self._sites))
        near, over, table = self._look(stream)
        due, site = table["due"], table["site"]
        counts = SiteCounts(*map(np.copy, count_sites(near, over, due, site, len(self._sites))))
        for name, more in others.items():
            for column, value in zip(counts, more, strict=True):
                column[self._sites[name]] += value
        until = self._until[stream]
        held = np.zeros(len(self._sites), np.bool_)
        held[[k for k, until_ms in until.items() if until_ms > self._turn_ms]] = True
        found = judge(near, over, due, site, counts, held)
        still = judge(near, over, due, site, counts, np.zeros_like(held)).sites
        until.update(dict.fromkeys(np.flatnonzero(still).tolist(), self._turn_ms + BACK_MS))
        table[stream] = found.over
        alone = [self._of_device(stream, int(row)) for row in np.flatnonzero(found.alone)]
        names = list(self._sites)
        spoken = [k for k in np.flatnonzero(found.sites).tolist() if speaks_for(names[k])]
        return alone + [self._of_site(stream, names[k], k, found, counts) for k in spoken]

    def _of_device(self, stream: Kind, row: int) -> Absence:
        name, one = self._names[row], self._table[row]
        if stream == "flapping":
            text = f"{name}: connects again and again, about {one['flaps']:.0f} times within half an hour"
            since_ms = self._onset(stream, "device", name, int(one["wall_ms"]))
            return Absence(stream, "device", name, since_ms, text, "network or power of the device", [name])
        cause = "the agent runs and sends nothing" if one["online"] else "network or power: its connection was lost"
        text = (
            f"{name}: no report since {say_time(int(one['wall_ms']))}, it reports every {one['interval_ms'] / 1000:g} s"
        )
        return Absence(stream, "device", name, int(one["wall_ms"]), text, cause, [name])

    def _of_site(self, stream: Kind, name: str, number: int, found: Judged, counts: SiteCounts) -> Absence:
        rows: Rows = np.flatnonzero(found.covered & (self._table["site"][: len(self._names)] == number))
        devices = sorted(self._names[row] for row in rows)
        first_ms = int(self._table["wall_ms"][rows].min()) if len(rows) else 0
        many = f"{counts.near[number]} of {counts.due[number]} devices"
        onset_ms = self._onset(stream, "site", name, first_ms)
        does = "connect again and again" if stream == "flapping" else f"send no reports since {say_time(onset_ms)}"
        cause = "network or power of the site"
        return Absence(stream, "site", name, onset_ms, f"{name}: {many} {does}", cause, devices)

    def _onset(self, stream: Kind, scope_kind: str, scope: str, otherwise_ms: int) -> int:
        """When it was found to begin, which later looks do not change."""
        known = self._held.get((stream, scope_kind, scope))
        return known.onset_ms if known else otherwise_ms
