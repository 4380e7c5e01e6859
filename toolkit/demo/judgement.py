"""What has to be true of the demo's alerts, and whether it is."""

from __future__ import annotations

import msgspec

from device_agent.contract.alert import Alert

PAGE_WITHIN_INTERVALS = 30


class Expectation(msgspec.Struct, frozen=True, kw_only=True):
    """What was done to the line: wall-clock ms of both disturbances, and the report interval in ms."""

    dirty_device: str
    dirty_ms: int
    changeover_site: str
    changeover_ms: int
    interval_ms: int


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """Figures measured in this run. `paged_after_intervals` counts from the dirt's onset to the page, in report
    intervals; None: never paged. `failures` is empty when all is as it has to be."""

    paged_after_intervals: float | None
    site_alerts: int
    other_alerts: list[str]
    failures: list[str]


def judge(alerts: list[Alert], expected: Expectation) -> Judgement:
    """The judgement over every alert of the run, open or closed; those inhibited by another one were never raised."""
    raised = [alert for alert in alerts if not alert.inhibited_by]
    on_dirty = [a for a in raised if a.scope_kind == "device" and a.scope == expected.dirty_device]
    pages = [a.paged_ms for a in on_dirty if a.paged_ms is not None and a.opened_ms >= expected.dirty_ms]
    sites = [
        a
        for a in raised
        if a.scope_kind == "site" and a.site == expected.changeover_site and a.opened_ms >= expected.changeover_ms
    ]
    right = {a.id for a in sites} | {a.id for a in on_dirty if a.opened_ms >= expected.dirty_ms}
    others = [f"{a.severity} {a.scope} {a.stream}" for a in raised if a.id not in right]
    after = (min(pages) - expected.dirty_ms) / expected.interval_ms if pages else None
    failures = []
    if after is None or after > PAGE_WITHIN_INTERVALS:
        when = "never paged" if after is None else f"paged after {after:.1f}"
        limit = f"not within {PAGE_WITHIN_INTERVALS} report intervals"
        failures.append(f"{expected.dirty_device} with the dirty lens was {when}, {limit}")
    if len(sites) > 1:
        failures.append(f"{expected.changeover_site} raised {len(sites)} site alerts, not one at most")
    if others:
        failures.append(f"alerts that are not true: {', '.join(others)}")
    return Judgement(paged_after_intervals=after, site_alerts=len(sites), other_alerts=others, failures=failures)
