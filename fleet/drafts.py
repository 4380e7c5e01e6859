"""Alerts as they are first written down: readings and findings in, alerts out."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from typing import Literal

import msgspec

from device_agent.contract.alert import SEVERITIES, Alert, Severity
from fleet.reading import Reading
from fleet.registry import Registry
from fleet.wording import guess_cause, guess_common_cause, kind_of_cause, say_effect, say_evidence, say_time

OOD_SHARE = 0.20
FIRST_WINDOWS = 3
Group = tuple[str, str]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What another part of the monitor found: a failure of golden parts, a silent or flapping device. `stream` names
    it and is no name of a detector's stream; `scope` is a device or, for scope_kind "site", a site."""

    stream: str
    scope_kind: Literal["device", "site"]
    scope: str
    severity: Severity
    onset_ms: int
    text: str
    cause: str = ""
    model: str = ""
    product: str = ""
    devices: list[str] = []


def family(stream: str) -> str:
    """What at most one alert of a scope is open for: all streams of the detector together, as one change moves several.

    >>> family("low+/runs"), family("def-:scratch"), family("golden")
    ('drift', 'drift', 'golden')
    """
    return "drift" if re.match(r"[a-z]+[+-]", stream) else stream


def dedupe_key(alert: Alert) -> tuple[str, ...]:
    """What at most one alert is open for: scope and family; of sites each product for itself."""
    inner = (alert.product,) if alert.scope_kind == "site" else ()
    return (alert.scope_kind, alert.scope, *inner, family(alert.stream))


def worse(severity: Severity, than: Severity) -> bool:
    """Whether a severity is above another.

    >>> worse("page", "warn"), worse("page", "page")
    (True, False)
    """
    return SEVERITIES.index(severity) > SEVERITIES.index(than)


def severity_of(reading: Reading) -> Severity | None:
    """What a reading of drift is worth: critical where over 20 % of frames are strange; None below a warning."""
    if not reading.armed:
        return "info" if reading.score >= reading.warn_at else None
    if reading.level > 1 and (reading.excess or 0.0) > OOD_SHARE:
        return "critical"
    return ("page" if reading.level > 1 else "warn") if reading.level else None


def draft_device(registry: Registry, reading: Reading, severity: Severity, steady: int, now_ms: int) -> Alert:
    """An alert of one device. `steady`: devices of its group that look normal."""
    device = registry.get(reading.device)
    windows = _fresh_windows(registry, reading)
    quality = registry.quality(reading.device)
    cause = guess_cause(quality, frozen=reading.frozen, steady=steady, fresh_windows=windows)
    doubt = "" if reading.armed else "; info only, as the line's prevalence is not known yet"
    stream = "frozen" if reading.frozen else reading.stream
    return Alert(
        id=_alert_id("device", reading.device, "", reading.model, stream, now_ms),
        severity=severity,
        scope_kind="device",
        scope=reading.device,
        site=device.site,
        product=device.product,
        model=reading.model,
        stream=stream,
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


def draft_site(registry: Registry, group: Group, above: list[Reading], members: int, now_ms: int) -> Alert:
    """An alert of a site and product, of whose `members` the devices of `above` changed."""
    site, product = group
    top = max(above, key=lambda reading: reading.score)
    onset_ms = min(reading.onset_ms for reading in above)
    of_product = f" ({product})" if product else ""
    cause = _common_cause(registry, above, members)
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
        devices=sorted(reading.device for reading in above),
    )


def draft_whole_site(
    registry: Registry, group: Group, alone: list[Reading], members: list[Reading], now_ms: int
) -> Alert:
    """An alert of all `members` of a site and product. No one of them differs from the others; `alone` is what those
    show that are judged without their peers."""
    judged = registry.sentinels(group)
    draft = draft_site(registry, group, alone, len(judged), now_ms)
    of_product = f" ({group[1]})" if group[1] else ""
    top = max(alone, key=lambda reading: reading.score)
    return msgspec.structs.replace(
        draft,
        text=f"{group[0]}{of_product}: the whole site changed since {say_time(draft.onset_ms)}, no device differs from "
        f"its peers; {len(alone)} of {len(judged)} devices that are judged alone show it, strongest {top.device}: "
        f"{say_effect(top)}; {say_evidence(top)}; likely cause: {draft.cause}",
        devices=sorted(reading.device for reading in members if reading.armed),
    )


def draft_finding(registry: Registry, finding: Finding, now_ms: int) -> Alert:
    """An alert of what another part of the monitor found."""
    device = registry.get(finding.scope) if finding.scope_kind == "device" else None
    return Alert(
        id=_alert_id(finding.scope_kind, finding.scope, finding.product, finding.model, finding.stream, now_ms),
        severity=finding.severity,
        scope_kind=finding.scope_kind,
        scope=finding.scope,
        site=device.site if device else finding.scope,
        product=device.product if device else finding.product,
        model=finding.model,
        stream=finding.stream,
        opened_ms=now_ms,
        onset_ms=finding.onset_ms,
        updated_ms=now_ms,
        text=finding.text,
        cause=finding.cause,
        devices=finding.devices or ([finding.scope] if device else []),
    )


def renewed(alert: Alert, newer: Alert) -> Alert:
    """The same alert with newer figures; what it was opened for stays."""
    kept = ("id", "opened_ms", "stream", "inhibited_by", "site", "product")
    return msgspec.structs.replace(newer, **{name: getattr(alert, name) for name in kept})


def _common_cause(registry: Registry, above: list[Reading], members: int) -> str:
    causes = {reading.device: guess_cause(registry.quality(reading.device)) for reading in above}
    (kind, count), *_ = Counter(map(kind_of_cause, causes.values())).most_common(1)
    example = next(f"{device}: {cause}" for device, cause in causes.items() if kind_of_cause(cause) == kind)
    new = [reading for reading in above if _fresh_windows(registry, reading) is not None]
    return guess_common_cause(kind, count, len(above), members, example, new_models=len(new))


def _fresh_windows(registry: Registry, reading: Reading) -> int | None:
    """Reports of the present model, where it has looked odd since its first ones; None where it was normal before."""
    interval_ms = registry.get(reading.device).interval_ms or 60_000
    first = reading.windows - (reading.at_ms - reading.onset_ms) // max(interval_ms, 1)
    return reading.windows if first <= FIRST_WINDOWS else None


def _alert_id(*parts: object) -> str:
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:12]
