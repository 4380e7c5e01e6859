"""Alerts: one open alert a finding, one a site when its devices change together, none for what is not known yet."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Mapping

import msgspec
from sqlalchemy.engine import Connection

from device_agent.contract.alert import Alert, Severity
from fleet.alert_store import Change, read_alerts, write_changes
from fleet.drafts import (
    Finding,
    Group,
    dedupe_key,
    draft_device,
    draft_finding,
    draft_site,
    draft_whole_site,
    family,
    renewed,
    severity_of,
    worse,
)
from fleet.reading import Reading
from fleet.registry import Registry
from fleet.wording import kind_of_cause

__all__ = ["AlertBook", "Change", "Finding", "read_alerts"]

SITE_SHARE = 0.30
SITE_DEVICES = 3
HOLD_WINDOWS = 3
HOLD_LONGEST = 12
CAUSE_MS = 60_000
Scope = tuple[str, ...]
OF_CONDITION = ("silent", "flapping")
"""Findings that end with their condition only; a new product or model is no end of them."""
MONITOR = "monitor"
"""What stands in `inhibited_by` while the monitor itself was deaf."""


class AlertBook:
    """The open alerts, and what the readings of a moment do to them.

    One alert is open for each dedupe key (see `fleet.drafts.dedupe_key`). A site alert stands for the devices of one
    site and product: it opens when 30 % of them and at least three are above warn, and inhibits what they raise. So
    that a common change does not first raise its fastest device, an alert of a device waits: `hold_windows` reports
    while another device of its group stirs. While as many stir as a site alert needs, it waits for `HOLD_LONGEST` and
    is then raised as the site's: peers raise what is expected of each other, so a common change keeps all of them low
    for long. Where the group is quiet, a page is raised at once, a warning after `hold_windows`. A group of fewer than
    three has no site alert and waits for nothing.

    What all devices of a site show together their peers excuse, so some of them are judged without peers too: when
    three of these are above warn, or both of two, the whole site is told of.

    A critical alert inhibits lesser ones of its scope, and an outage of the monitor those of silent devices.
    """

    def __init__(self, registry: Registry, *, hold_windows: int = HOLD_WINDOWS) -> None:
        self._registry = registry
        self._hold_windows = hold_windows
        self._deaf = False
        self._held: dict[str, int] = {}
        self._ids: dict[Scope, str] = {}
        self._scopes: dict[Scope, set[str]] = defaultdict(set)
        self._seen: set[Scope] = set()
        self._told: dict[str, tuple[str, int]] = {}
        self.open: dict[str, Alert] = {}

    def load(self, tx: Connection) -> None:
        """Take up the alerts that are open in the store."""
        self.open, self._ids = {}, {}
        self._scopes.clear()
        for alert in read_alerts(tx):
            self._keep(self._with_product(alert))

    def _with_product(self, alert: Alert) -> Alert:
        """A site alert as it is known now; the first version of the store kept no product in it."""
        if alert.scope_kind != "site" or alert.product or not alert.devices:
            return alert
        return msgspec.structs.replace(alert, product=self._registry.get(alert.devices[0]).product)

    def step(self, readings: Mapping[str, Reading], judged: set[str], now_ms: int) -> list[Change]:
        """What the new readings of the devices `judged` change; `readings` are the last of all devices."""
        members: dict[Group, list[Reading]] = {}
        concerned = {device for alert in self.open.values() for device in alert.devices}
        suspects = {name for name in judged if name in concerned or _suspect(readings[name])}
        if not suspects:
            return []
        touched = {self._registry.get(device).group for device in suspects}
        for group in touched:
            members[group] = [readings[device] for device in self._registry.members(group) if device in readings]
        changes: list[Change] = []
        for group in sorted(members):
            changes += self._step_site(group, members[group], now_ms)
            for reading in members[group]:
                if reading.device in suspects:
                    changes += self._step_frozen(reading, now_ms)
                    changes += [] if reading.frozen else self._step_device(reading, group, members[group], now_ms)
        return changes

    def report(self, finding: Finding, now_ms: int) -> list[Change]:
        """Take what another part of the monitor found; called again with newer words while it holds. One that was
        acknowledged is not opened again until `retract` says that it was over."""
        newer = draft_finding(self._registry, finding, now_ms)
        alert = self._find(*dedupe_key(newer))
        if alert is None:
            return [] if dedupe_key(newer) in self._seen else self._open(newer)
        grown = worse(newer.severity, alert.severity)
        if not grown and (newer.text, newer.devices) == (alert.text, alert.devices):
            return []
        newer = msgspec.structs.replace(renewed(alert, newer), onset_ms=alert.onset_ms)
        if not grown:
            newer = msgspec.structs.replace(newer, severity=alert.severity)
        return [self._put(newer, "raised" if grown else "updated")]

    def retract(self, finding: Finding, reason: str, now_ms: int) -> list[Change]:
        """What was found is over; nothing happens where no alert of it is open."""
        key = dedupe_key(draft_finding(self._registry, finding, now_ms))
        self._seen.discard(key)
        alert = self._find(*key)
        return self._end(alert, reason, now_ms) if alert else []

    def acknowledge(self, alert_id: str, reason: str, now_ms: int) -> list[Change]:
        """Close one finding of a condition ("silent") that is seen, whose devices keep their evidence; it stays closed
        until the condition was over once. Alerts of the detector are closed by `calm`."""
        alert = self.open.get(alert_id)
        if alert is None:
            return []
        self._seen.add(dedupe_key(alert))
        return self._end(alert, reason, now_ms)

    def outage(self, deaf: bool, now_ms: int) -> list[Change]:
        """Say whether the monitor itself hears nothing (no broker, just started): silent devices are then not told."""
        if deaf == self._deaf:
            return []
        self._deaf = deaf
        silent = [alert for alert in self.open.values() if alert.stream == "silent"]
        if not deaf:
            return self._uncover(MONITOR, silent, now_ms)
        return [self._inhibit(alert, MONITOR) for alert in silent if not alert.inhibited_by]

    def calm(self, devices: Collection[str], reason: str, now_ms: int) -> list[Change]:
        """Close what the devices raised, and take them out of the alerts of their sites. What is found of their
        connection stays."""
        closed: list[Change] = []
        for device in sorted(devices):
            for alert_id in sorted(self._scopes.get(("device", device), ())):
                alert = self.open.get(alert_id)
                if alert and alert.stream not in OF_CONDITION:
                    closed += self._end(alert, reason, now_ms)
        return closed + self.leave(devices, reason, now_ms)

    def leave(self, devices: Collection[str], reason: str, now_ms: int) -> list[Change]:
        """Take devices out of the alerts of their sites: an alert of fewer than `SITE_DEVICES` closes, and what a
        device raised itself is covered no more."""
        changes: list[Change] = []
        sites = [alert for alert in self.open.values() if alert.scope_kind == "site"]
        for alert in [alert for alert in sites if not set(devices).isdisjoint(alert.devices)]:
            staying = [device for device in alert.devices if device not in devices]
            if len(staying) < SITE_DEVICES:
                left = f"{reason}; fewer than {SITE_DEVICES} other devices" if staying else reason
                changes += self._end(alert, left, now_ms)
            else:
                newer = msgspec.structs.replace(alert, devices=staying, updated_ms=now_ms)
                out = [each for each in self._covered(alert.id) if each.scope in devices]
                changes += [self._put(newer, "updated"), *self._uncover(alert.id, out, now_ms)]
        return changes

    def write(self, tx: Connection, changes: list[Change]) -> None:
        """Store what changed, and that it is to be told."""
        write_changes(tx, changes)

    def _step_site(self, group: Group, members: list[Reading], now_ms: int) -> list[Change]:
        above = [reading for reading in members if reading.armed and reading.level]
        judged = self._registry.sentinels(group)
        alone = [
            one.alone for one in members if one.device in judged and one.alone and one.alone.armed and one.alone.level
        ]
        alert = self._find("site", *group, "drift")
        if alert is None:
            if len(above) >= _needed(members):
                return self._open_site(group, above, members, now_ms)
            if alone and len(alone) >= min(SITE_DEVICES, len(judged)):
                return self._open(draft_whole_site(self._registry, group, alone, members, now_ms))
            return []
        if not above and not alone:
            reason = "devices back to normal"
            inner = [self._close(other, f"{reason}, with {alert.id}", now_ms) for other in self._covered(alert.id)]
            return [*inner, self._close(alert, reason, now_ms)]
        if above:
            newer = draft_site(self._registry, group, above, len(members), now_ms)
        else:
            newer = draft_whole_site(self._registry, group, alone, members, now_ms)
        grown = worse(newer.severity, alert.severity)
        newer = msgspec.structs.replace(
            newer,
            id=alert.id,
            opened_ms=alert.opened_ms,
            onset_ms=alert.onset_ms,
            stream=alert.stream,
            severity=newer.severity if grown else alert.severity,
            devices=sorted({*alert.devices, *newer.devices}),
        )
        return [self._put(newer, "raised" if grown else "updated")]

    def _open_site(self, group: Group, changed: list[Reading], members: list[Reading], now_ms: int) -> list[Change]:
        return self._open(draft_site(self._registry, group, changed, len(members), now_ms))

    def _step_frozen(self, reading: Reading, now_ms: int) -> list[Change]:
        alert = self._find("device", reading.device, "frozen")
        if not reading.frozen:
            return self._end(alert, _ending(alert, reading), now_ms) if alert else []
        newer = draft_device(self._registry, reading, "critical", 0, now_ms)
        return self._open(newer) if alert is None else [self._put(renewed(alert, newer), "updated")]

    def _step_device(self, reading: Reading, group: Group, members: list[Reading], now_ms: int) -> list[Change]:
        severity = severity_of(reading)
        alert = self._find("device", reading.device, "drift")
        if severity is None:
            self._held.pop(reading.device, None)
            return self._end(alert, _ending(alert, reading), now_ms) if alert else []
        steady = sum(not other.stirring for other in members if other.device != reading.device)
        if alert is not None and not worse(severity, alert.severity):
            newer = draft_device(self._registry, reading, alert.severity, steady, now_ms)
            return [self._put(renewed(alert, newer), "updated")]
        if reading.armed:
            if self._find("site", *group, "drift"):
                return []
            common = [other for other in members if other.stirring]
            if self._wait(reading, severity, members, common):
                return []
            if alert is None and len(common) >= _needed(members):
                return self._open_site(group, common, members, now_ms)
        self._held.pop(reading.device, None)
        newer = draft_device(self._registry, reading, severity, steady, now_ms)
        return self._open(newer) if alert is None else [self._put(renewed(alert, newer), "raised")]

    def _wait(self, reading: Reading, severity: Severity, members: list[Reading], common: list[Reading]) -> bool:
        """Whether the group may be about to raise a site alert; counts the reports for which this alert waited."""
        if len(members) < SITE_DEVICES:
            return False
        longest = self._hold_windows if len(common) > 1 or severity == "warn" else 0
        if len(common) >= _needed(members):
            longest = HOLD_LONGEST
        waited = self._held.get(reading.device, 0)
        self._held[reading.device] = waited + 1
        return waited < longest

    def _find(self, *key: str) -> Alert | None:
        """The open alert of ("device", name, family) or of ("site", site, product, family)."""
        return self.open.get(self._ids.get(key, ""))

    def _open(self, alert: Alert) -> list[Change]:
        """Open an alert, covered or covering others."""
        alert = msgspec.structs.replace(alert, inhibited_by=self._cover(alert))
        changes = [self._put(alert, "opened")]
        return changes + [self._inhibit(other, alert.id) for other in self._lesser(alert) if not other.inhibited_by]

    def _lesser(self, alert: Alert) -> list[Alert]:
        """Open alerts that this one stands for: those of the devices of a site, and lesser ones beside a critical."""
        found: list[Alert] = []
        if alert.scope_kind == "site":
            own = [self._find("device", device, family(alert.stream)) for device in alert.devices]
            found = [other for other in own if other]
        if alert.severity == "critical":
            beside = [self.open[each] for each in sorted(self._scopes[alert.scope_kind, alert.scope])]
            found += [other for other in beside if other.severity != "critical"]
        return found

    def _cover(self, alert: Alert) -> str:
        """What stands for this alert now; empty where nothing does."""
        if self._deaf and alert.stream == "silent":
            return MONITOR
        beside = [self.open[each] for each in sorted(self._scopes[alert.scope_kind, alert.scope])]
        over = [other.id for other in beside if other.severity == "critical" and other.id != alert.id]
        if over and alert.severity != "critical":
            return over[0]
        if alert.scope_kind == "device" and alert.stream != "frozen":
            site = self._find("site", *self._registry.get(alert.scope).group, family(alert.stream))
            return site.id if site and alert.scope in site.devices else ""
        return ""

    def _covered(self, by: str) -> list[Alert]:
        """What was raised before another alert, or an outage, that stands for it now."""
        return [alert for alert in self.open.values() if alert.inhibited_by == by]

    def _inhibit(self, alert: Alert, by: str) -> Change:
        return self._put(msgspec.structs.replace(alert, inhibited_by=by), "inhibited")

    def _uncover(self, by: str, alerts: list[Alert], now_ms: int) -> list[Change]:
        """Tell of alerts again that `by` stood for, unless something else does now."""
        changes = []
        for alert in [alert for alert in alerts if alert.inhibited_by == by]:
            bare = msgspec.structs.replace(alert, inhibited_by="", updated_ms=now_ms)
            cover = self._cover(bare) if self._cover(bare) != by else ""
            covered = msgspec.structs.replace(bare, inhibited_by=cover)
            changes.append(self._put(covered, "updated" if cover else "raised"))
        return changes

    def _put(self, alert: Alert, what: str) -> Change:
        known = self.open.get(alert.id)
        paged_ms = known.paged_ms if known else None
        if paged_ms is None and not worse("page", alert.severity):
            paged_ms = alert.updated_ms
        alert = msgspec.structs.replace(alert, paged_ms=paged_ms)
        told, told_ms = self._told.setdefault(alert.id, ((known or alert).cause, (known or alert).updated_ms))
        due = alert.updated_ms - told_ms >= CAUSE_MS and not alert.inhibited_by
        if what == "updated" and due and kind_of_cause(alert.cause) != kind_of_cause(told):
            what = "explained"
        if what != "updated":
            self._told[alert.id] = (alert.cause, alert.updated_ms)
        self._keep(alert)
        return Change(alert, what)

    def _keep(self, alert: Alert) -> None:
        self.open[alert.id] = alert
        self._ids[dedupe_key(alert)] = alert.id
        self._scopes[alert.scope_kind, alert.scope].add(alert.id)

    def _end(self, alert: Alert, reason: str, now_ms: int) -> list[Change]:
        """Close an alert; what it stood for is told again."""
        closed = self._close(alert, reason, now_ms)
        return [closed, *self._uncover(alert.id, self._covered(alert.id), now_ms)]

    def _close(self, alert: Alert, reason: str, now_ms: int) -> Change:
        for memory in (self.open, self._told):
            memory.pop(alert.id, None)
        self._ids.pop(dedupe_key(alert), None)
        self._scopes[alert.scope_kind, alert.scope].discard(alert.id)
        closed = msgspec.structs.replace(alert, closed_ms=now_ms, updated_ms=now_ms, closed_reason=reason)
        return Change(closed, "closed")


def _suspect(reading: Reading) -> bool:
    """Whether a reading may open an alert, or keep one open."""
    return reading.stirring or reading.frozen or reading.alone is not None or severity_of(reading) is not None


def _ending(alert: Alert, reading: Reading) -> str:
    """Why there is nothing to be seen any more."""
    return "back to normal" if reading.model == alert.model else f"the device now runs model {reading.model}"


def _needed(members: list[Reading]) -> int:
    return max(SITE_DEVICES, math.ceil(SITE_SHARE * len(members)))
