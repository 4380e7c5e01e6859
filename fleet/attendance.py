"""Who speaks, and what is told when somebody does not: the findings of `fleet.presence` as alerts."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from device_agent.contract.session import State
from fleet.alerts import OF_CONDITION, AlertBook, Change, Finding
from fleet.ledger import Entry
from fleet.presence import Absence, Presence
from fleet.registry import UNASSIGNED, Before, Device, Registry

FIND_MS = 5_000
ENDED = "stopped"
OVER = "it reports again"


class Attendance:
    """The presence of all devices of a registry. `monotonic_ms` is a clock that nobody sets."""

    def __init__(self, registry: Registry, alerts: AlertBook, monotonic_ms: Callable[[], float]) -> None:
        self._registry, self._alerts, self._monotonic_ms = registry, alerts, monotonic_ms
        self._presence = Presence(self._now())
        self._known: set[str] = set()
        self._next_ms = 0
        self.know(registry.devices)
        for alert in alerts.open.values():
            if alert.stream in OF_CONDITION:
                place = (alert.scope_kind, alert.scope, alert.onset_ms, alert.devices)
                self._presence.take_up(alert.stream, *place)  # type: ignore[arg-type]

    def know(self, devices: Iterable[str]) -> None:
        """Take up devices, or what changed of them."""
        for name in devices:
            device = self._registry.get(name)
            self._known.add(name)
            self._presence.know(
                name,
                site="" if device.site == UNASSIGNED else device.site,
                interval_ms=device.interval_ms or 60_000,
                due=device.last_report_ms is not None and not _ended(device),
                wall_ms=device.last_report_ms or 0,
                session=-1 if device.session is None else device.session,
                online=device.online is not False,
            )

    def hear_reports(self, entries: list[Entry], now_ms: int) -> None:
        """Reports of devices of this worker."""
        devices = {entry.device for entry in entries}
        self.know(devices - self._known)
        self._presence.hear_reports(devices, self._now(), now_ms)

    def hear_state(self, device: str, state: State) -> None:
        """A state or last will of a device of this worker."""
        if device not in self._known:
            self.know([device])
        ended = not state.online and state.reason == ENDED
        self._presence.hear_state(device, state.session, online=state.online, ended=ended, now_ms=self._now())

    def hear_birth(self, device: str, *, anew: bool) -> None:
        """A birth, with the interval that counts from now on; `anew`: of another spool, which counts sessions anew."""
        self.know([device])
        if anew:
            self._presence.start_sessions(device)

    def follow(self, before: Iterable[Before]) -> None:
        """What other workers stored of their devices; `before` is what these were."""
        now_ms = self._now()
        for old in before:
            new = self._registry.get(old.device)
            self.know([old.device])
            if new.session is not None and (new.session, new.online) != (old.session, old.online):
                online, ended = new.online is not False, _ended(new)
                self._presence.hear_state(new.device, new.session, online=online, ended=ended, now_ms=now_ms)
            if new.last_report_ms is not None and new.last_report_ms != old.last_report_ms:
                self._presence.hear_reports([new.device], now_ms, new.last_report_ms)

    def turn(self, now_ms: int, *, hearing: bool) -> list[Change]:
        """Every turn: whether the monitor hears devices at all. Every 5 s what is found, and what is over."""
        monotonic_ms = self._now()
        self._presence.turn(monotonic_ms, hearing=hearing)
        if monotonic_ms < self._next_ms:
            return []
        self._next_ms = monotonic_ms + FIND_MS
        changes: list[Change] = []
        held, over = self._presence.find()
        for absence in over:
            changes += self._alerts.retract(_finding(absence), OVER, now_ms)
        for absence in held:
            changes += self._alerts.report(_finding(absence), now_ms)
        return changes

    def _now(self) -> int:
        return round(self._monotonic_ms())


def _ended(device: Device) -> bool:
    return device.online is False and device.reason == ENDED


def _finding(absence: Absence) -> Finding:
    return Finding(**absence._asdict())
