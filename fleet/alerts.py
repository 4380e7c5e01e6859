"""Alerts: one open alert a finding, one a site when its devices change together, none for what is not known yet."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Collection, Mapping

import msgspec
from sqlalchemy import ColumnElement, cast, func, literal, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Connection

from device_agent.contract.alert import SEVERITIES, Alert, Severity
from fleet.reading import Reading
from fleet.registry import Registry
from fleet.schema import ALERT
from fleet.store import upsert
from fleet.wording import guess_cause, say_effect, say_evidence, say_time

SITE_SHARE = 0.30
SITE_DEVICES = 3
HOLD_WINDOWS = 3
HOLD_LONGEST = 12
CAUSE_MS = 60_000
Group = tuple[str, str]
Scope = tuple[str, ...]


class Change(msgspec.Struct, frozen=True):
    """An alert that was opened, raised (or is covered no more), inhibited, closed, whose cause looks another by now
    ("explained"), or that just has newer figures ("updated")."""

    alert: Alert
    what: str


class AlertBook:
    """The open alerts, and what the readings of a moment do to them.

    A site alert stands for the devices of one site and product: it opens when 30 % of them and at least three are above
    warn, and inhibits what they raise. So that a common change does not first raise its fastest device, an alert of a
    device waits: `hold_windows` reports while another device of its group stirs. While as many stir as a site alert
    needs, it waits for `HOLD_LONGEST` and is then raised as the site's: peers raise what is expected of each other, so
    a common change keeps all of them low for long. Where the group is quiet, a page is raised at once, a warning after
    `hold_windows`. A group of fewer than three has no site alert and waits for nothing.
    """

    def __init__(self, registry: Registry, *, hold_windows: int = HOLD_WINDOWS) -> None:
        self._registry = registry
        self._hold_windows = hold_windows
        self._held: dict[str, int] = {}
        self._ids: dict[Scope, str] = {}
        self._told: dict[str, tuple[str, int]] = {}
        self.open: dict[str, Alert] = {}

    def load(self, tx: Connection) -> None:
        """Take up the alerts that are open in the store."""
        self.open = {alert.id: self._with_product(alert) for alert in read_alerts(tx)}
        self._ids = {_scope(alert): alert.id for alert in self.open.values()}

    def _with_product(self, alert: Alert) -> Alert:
        """A site alert as it is known now; the first version of the store kept no product in it."""
        if alert.scope_kind != "site" or alert.product or not alert.devices:
            return alert
        return msgspec.structs.replace(alert, product=self._registry.get(alert.devices[0]).product)

    def step(self, readings: Mapping[str, Reading], judged: set[str], now_ms: int) -> list[Change]:
        """What the new readings of the devices `judged` change; `readings` are the last of all devices."""
        members: dict[Group, list[Reading]] = defaultdict(list)
        concerned = {device for alert in self.open.values() for device in alert.devices}
        suspects = {
            name for name in judged if name in concerned or readings[name].stirring or _severity(readings[name])
        }
        if not suspects:
            return []
        touched = {self._registry.get(device).group for device in suspects}
        for device, reading in readings.items():
            if (group := self._registry.get(device).group) in touched:
                members[group].append(reading)
        changes: list[Change] = []
        for group in sorted(members):
            changes += self._step_site(group, members[group], now_ms)
            for reading in members[group]:
                if reading.device in suspects:
                    changes += self._step_device(reading, group, members[group], now_ms)
        return changes

    def calm(self, devices: Collection[str], reason: str, now_ms: int) -> list[Change]:
        """Close what the devices raised, and take them out of the alerts of their sites."""
        own = [self._find("device", device) for device in sorted(devices)]
        closed = [self._close(alert, reason, now_ms) for alert in own if alert]
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
                changes += [self._close(alert, left, now_ms), *self._uncover(alert, alert.devices, now_ms)]
            else:
                newer = msgspec.structs.replace(alert, devices=staying, updated_ms=now_ms)
                changes += [self._put(newer, "updated"), *self._uncover(alert, devices, now_ms)]
        return changes

    def write(self, tx: Connection, changes: list[Change]) -> None:
        """Store what changed."""
        last = {change.alert.id: change.alert for change in changes}
        upsert(tx, ALERT, [_row(alert) for alert in last.values()])

    def _step_site(self, group: Group, members: list[Reading], now_ms: int) -> list[Change]:
        above = [reading for reading in members if reading.armed and reading.level]
        alert = self._find("site", *group)
        if alert is None:
            return self._open_site(group, above, now_ms) if len(above) >= _needed(members) else []
        if not above:
            reason = "devices back to normal"
            inner = [self._close(other, f"{reason}, with {alert.id}", now_ms) for other in self._covered(alert)]
            return [*inner, self._close(alert, reason, now_ms)]
        newer = self._draft_site(group, above, now_ms)
        grown = _worse(newer.severity, alert.severity)
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

    def _open_site(self, group: Group, changed: list[Reading], now_ms: int) -> list[Change]:
        alert = self._draft_site(group, changed, now_ms)
        changes = [self._put(alert, "opened")]
        for device in alert.devices:
            other = self._find("device", device)
            if other and not other.inhibited_by:
                changes.append(self._put(msgspec.structs.replace(other, inhibited_by=alert.id), "inhibited"))
        return changes

    def _covered(self, site_alert: Alert) -> list[Alert]:
        """What devices raised themselves before the alert of their site, which stands for it now."""
        own = [self._find("device", device) for device in site_alert.devices]
        return [alert for alert in own if alert and alert.inhibited_by == site_alert.id]

    def _uncover(self, site_alert: Alert, devices: Collection[str], now_ms: int) -> list[Change]:
        return [
            self._put(msgspec.structs.replace(alert, inhibited_by="", updated_ms=now_ms), "raised")
            for alert in self._covered(site_alert)
            if alert.scope in devices
        ]

    def _step_device(self, reading: Reading, group: Group, members: list[Reading], now_ms: int) -> list[Change]:
        severity = _severity(reading)
        alert = self._find("device", reading.device)
        if severity is None:
            self._held.pop(reading.device, None)
            return [self._close(alert, "back to normal", now_ms)] if alert else []
        if alert is not None and not _worse(severity, alert.severity):
            newer = self._draft_device(reading, alert.severity, now_ms)
            return [self._put(_renewed(alert, newer), "updated")]
        if severity != "critical" and reading.armed:
            if self._find("site", *group):
                return []
            common = [other for other in members if other.stirring]
            if self._wait(reading, severity, members, common):
                return []
            if alert is None and len(common) >= _needed(members):
                return self._open_site(group, common, now_ms)
        self._held.pop(reading.device, None)
        newer = self._draft_device(reading, severity, now_ms)
        return [self._put(newer if alert is None else _renewed(alert, newer), "raised" if alert else "opened")]

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

    def _find(self, *scope: str) -> Alert | None:
        """The open alert of ("device", name) or of ("site", site, product)."""
        return self.open.get(self._ids.get(scope, ""))

    def _draft_site(self, group: Group, above: list[Reading], now_ms: int) -> Alert:
        site, product = group
        top = max(above, key=lambda reading: reading.score)
        onset_ms = min(reading.onset_ms for reading in above)
        devices = sorted(reading.device for reading in above)
        cause = guess_cause(self._registry.quality(top.device), common=True)
        of_product = f" ({product})" if product else ""
        return Alert(
            id=_alert_id("site", site, product, top.model, top.stream, now_ms),
            severity="page" if any(reading.level > 1 for reading in above) else "warn",
            scope_kind="site",
            scope=site,
            site=site,
            product=product,
            model=top.model,
            stream=top.stream,
            opened_ms=now_ms,
            onset_ms=onset_ms,
            updated_ms=now_ms,
            text=f"{site}{of_product}: {len(above)} devices changed together since {say_time(onset_ms)}; strongest "
            f"{top.device}: {say_effect(top)}; {say_evidence(top)}; likely cause: {cause}",
            ratio=top.ratio,
            ratio_low=top.ratio_low,
            ratio_high=top.ratio_high,
            log_e=top.score,
            independent_frames=top.independent,
            cause=cause,
            devices=devices,
        )

    def _draft_device(self, reading: Reading, severity: Severity, now_ms: int) -> Alert:
        device = self._registry.get(reading.device)
        cause = guess_cause(self._registry.quality(reading.device), frozen=reading.frozen)
        doubt = "" if reading.armed else "; info only, as the line's prevalence is not known yet"
        return Alert(
            id=_alert_id("device", reading.device, "", reading.model, reading.stream, now_ms),
            severity=severity,
            scope_kind="device",
            scope=reading.device,
            site=device.site,
            product=device.product,
            model=reading.model,
            stream="frozen" if reading.frozen else reading.stream,
            opened_ms=now_ms,
            onset_ms=reading.onset_ms,
            updated_ms=now_ms,
            text=f"{reading.device}: {say_effect(reading)} since {say_time(reading.onset_ms)}; "
            f"{say_evidence(reading)}; likely cause: {cause}{doubt}",
            ratio=reading.ratio,
            ratio_low=reading.ratio_low,
            ratio_high=reading.ratio_high,
            log_e=reading.score,
            independent_frames=reading.independent,
            cause=cause,
            devices=[reading.device],
        )

    def _put(self, alert: Alert, what: str) -> Change:
        known = self.open.get(alert.id)
        paged_ms = known.paged_ms if known else None
        if paged_ms is None and not _worse("page", alert.severity):
            paged_ms = alert.updated_ms
        alert = msgspec.structs.replace(alert, paged_ms=paged_ms)
        told, told_ms = self._told.setdefault(alert.id, ((known or alert).cause, (known or alert).updated_ms))
        due = alert.updated_ms - told_ms >= CAUSE_MS and not alert.inhibited_by
        if what == "updated" and due and _kind(alert.cause) != _kind(told):
            what = "explained"
        if what != "updated":
            self._told[alert.id] = (alert.cause, alert.updated_ms)
        self.open[alert.id] = alert
        self._ids[_scope(alert)] = alert.id
        return Change(alert, what)

    def _close(self, alert: Alert, reason: str, now_ms: int) -> Change:
        for memory in (self.open, self._told):
            memory.pop(alert.id, None)
        self._ids.pop(_scope(alert), None)
        closed = msgspec.structs.replace(alert, closed_ms=now_ms, updated_ms=now_ms, closed_reason=reason)
        return Change(closed, "closed")


def read_alerts(
    tx: Connection, *, closed: bool = False, since_ms: int = 0, device: str | None = None, limit: int | None = None
) -> list[Alert]:
    """Open alerts, newest first; with `closed` also those closed at or after `since_ms`, at most `limit` of them, the
    newest. `device`: only those that concern it."""
    columns = select(ALERT.c.document, ALERT.c.opened_ms, ALERT.c.id)
    if device is not None:
        columns = columns.where(_names(tx, device))
    columns = columns.order_by(ALERT.c.opened_ms.desc(), ALERT.c.id)
    rows = tx.execute(columns.where(ALERT.c.closed_ms.is_(None))).all()
    if closed:
        rows = [*rows, *tx.execute(columns.where(ALERT.c.closed_ms >= since_ms).limit(limit))]
        rows.sort(key=lambda row: (-row.opened_ms, row.id))
    return [msgspec.json.decode(row.document, type=Alert) for row in rows]


def _names(tx: Connection, device: str) -> ColumnElement[bool]:
    """Whether an alert's document names the device."""
    if tx.dialect.name == "postgresql":
        devices: ColumnElement[bool] = cast(ALERT.c.document, JSONB)["devices"].has_key(device)
        return devices
    named = func.json_each(ALERT.c.document, "$.devices").table_valued("value")
    return literal(device).in_(select(named.c.value))


def _row(alert: Alert) -> dict[str, object]:
    document = msgspec.json.encode(alert).decode()
    return {"id": alert.id, "opened_ms": alert.opened_ms, "closed_ms": alert.closed_ms, "document": document}


def _renewed(alert: Alert, newer: Alert) -> Alert:
    """The same alert with newer figures; what it was opened for stays."""
    kept = ("id", "opened_ms", "stream", "inhibited_by", "site", "product")
    return msgspec.structs.replace(newer, **{name: getattr(alert, name) for name in kept})


def _scope(alert: Alert) -> Scope:
    """What at most one alert is open for."""
    return ("device", alert.scope) if alert.scope_kind == "device" else ("site", alert.site, alert.product)


def _kind(cause: str) -> str:
    """A cause without its figures: "lens" of "lens: dirt or focus (sharpness 410, was 800)"."""
    return cause.partition(":")[0]


def _severity(reading: Reading) -> Severity | None:
    if reading.frozen:
        return "critical"
    if not reading.armed:
        return "info" if reading.score >= reading.warn_at else None
    return ("page" if reading.level > 1 else "warn") if reading.level else None


def _worse(severity: Severity, than: Severity) -> bool:
    return SEVERITIES.index(severity) > SEVERITIES.index(than)


def _needed(members: list[Reading]) -> int:
    return max(SITE_DEVICES, math.ceil(SITE_SHARE * len(members)))


def _alert_id(*parts: object) -> str:
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:12]
