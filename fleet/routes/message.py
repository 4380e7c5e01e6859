"""Notices in words. Names of sites, products and labels are other people's: they stay on their line."""

from __future__ import annotations

import hashlib
from collections import Counter

from device_agent.contract.alert import SEVERITIES
from fleet.routes import Item, Notice
from fleet.wording import printable, say_time

TITLE, LINE, TEXT = 140, 600, 6000
LISTED = 20
SAID = {
    "opened": "",
    "raised": "now ",
    "explained": "another cause: ",
    "inhibited": "covered by another: ",
    "reminder": "still open: ",
    "closed": "closed: ",
}


def write_notice(item: Item, now_ms: int, *, link: str = "") -> Notice:
    """One alert as a message."""
    alert = item.alert
    scope = f"{alert.scope_kind} {_short(alert.scope, 64)}"
    title = f"[{alert.severity}] {SAID[item.what]}{scope}: {alert.stream}, {_short(alert.cause, 60)}".rstrip(", ")
    lines = [
        _short(alert.text, LINE),
        f"severity: {alert.severity}",
        f"site: {_short(alert.site, 64)}",
        f"product: {_short(alert.product, 64) or '-'}",
        f"model: {_short(alert.model, 64) or '-'}",
        f"onset: {say_time(alert.onset_ms)}",
        f"opened: {say_time(alert.opened_ms)}",
        f"devices: {_short(', '.join(alert.devices[:LISTED]), LINE)}{' ...' if len(alert.devices) > LISTED else ''}",
    ]
    if alert.closed_ms is not None:
        lines.append(f"closed: {say_time(alert.closed_ms)} ({_short(alert.closed_reason, 200)})")
    lines.append(f"alert: {alert.id}" + (f" {_short(link, 1000)}" if link else ""))
    return Notice(
        id=_notice_id([item], now_ms),
        kind="alert",
        at_ms=now_ms,
        title=_short(title, TITLE),
        text="\n".join(lines)[:TEXT],
        counts={alert.severity: 1},
        items=[item],
    )


def write_digest(items: list[Item], now_ms: int, *, link: str = "") -> Notice:
    """Many alerts as one message: how many of each severity and site, then the worst of them."""
    ordered = sorted(items, key=lambda item: (-SEVERITIES.index(item.alert.severity), item.alert.opened_ms))
    severities = Counter(str(item.alert.severity) for item in ordered)
    counts = {severity: severities[severity] for severity in reversed(SEVERITIES) if severities[severity]}
    sites = Counter(item.alert.site for item in ordered)
    kinds = Counter(item.what for item in ordered)
    counted = ", ".join(f"{number} {name}" for name, number in counts.items())
    named = ", ".join(f"{number} at {_short(site, 64)}" for site, number in sites.most_common(LISTED))
    lines = [
        f"{len(items)} alerts at once: {counted}",
        f"changes: {', '.join(f'{number} {what}' for what, number in kinds.most_common())}",
        f"sites: {named}{' and others' if len(sites) > LISTED else ''}",
        *(
            f"{item.alert.id} {item.alert.severity} {item.what}: {_short(item.alert.text, 200)}"
            for item in ordered[:LISTED]
        ),
    ]
    if len(items) > LISTED:
        lines.append(f"and {len(items) - LISTED} more: lineside-fleet alerts")
    if link:
        lines.append(_short(link, 1000))
    return Notice(
        id=_notice_id(ordered, now_ms),
        kind="digest",
        at_ms=now_ms,
        title=_short(f"{len(items)} alerts: {counted}", TITLE),
        text="\n".join(lines)[:TEXT],
        counts=dict(counts),
        items=ordered,
    )


def write_test(route: str, now_ms: int) -> Notice:
    """A message that says that the way is open."""
    return Notice(
        id=hashlib.sha256(f"{route}\0{now_ms}".encode()).hexdigest()[:16],
        kind="test",
        at_ms=now_ms,
        title=f"[test] lineside route {_short(route, 64)}",
        text=f"This is a test of the route {_short(route, 64)} at {say_time(now_ms)}. Nothing is wrong.",
    )


def _short(text: str, most: int) -> str:
    """On one line, without what moves a cursor, at most so many characters."""
    plain = printable(text)
    return plain if len(plain) <= most else f"{plain[: most - 1]}…"


def _notice_id(items: list[Item], now_ms: int) -> str:
    """The same for the same changes, so that what is sent again can be told; a reminder is one of its own."""
    parts = [
        f"{item.alert.id}\0{item.what}\0{item.alert.severity}\0{item.alert.closed_ms or ''}"
        + (f"\0{now_ms}" if item.what == "reminder" else f"\0{item.alert.inhibited_by}")
        for item in items
    ]
    return hashlib.sha256("\1".join(sorted(parts)).encode()).hexdigest()[:16]
