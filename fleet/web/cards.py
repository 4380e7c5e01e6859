"""Parts that several pages draw."""

from __future__ import annotations

from collections.abc import Mapping

from nicegui import ui

from device_agent.contract.alert import Alert


def alert_card(alert: Alert, now_ms: int, silent: Mapping[str, int | None]) -> None:
    """Draw one alert; `silent` are the devices that send nothing any more, with the time of their last report."""
    closed = alert.closed_ms is not None
    with ui.row().classes(f"ls-alert ls-edge-{alert.severity}{' ls-closed' if closed else ''}"):
        ui.label(alert.severity).classes(f"ls-badge ls-badge-{alert.severity}")
        with ui.column().classes("ls-alert-text"):
            if alert.scope_kind == "device":
                ui.link(alert.scope, f"/device/{alert.scope}").classes("ls-scope")
            else:
                ui.label(f"site {alert.scope}").classes("ls-scope")
            ui.label(alert.text)
            state = f"closed {say_age(alert.closed_ms, now_ms)}: {alert.closed_reason}" if closed else "open"
            covered = f" · covered by {alert.inhibited_by}" if alert.inhibited_by else ""
            ui.label(
                f"{alert.id} · {alert.stream} · opened {say_age(alert.opened_ms, now_ms)} · {state}{covered}"
            ).classes("ls-note")
            if not closed and (gone := [device for device in alert.devices if device in silent]):
                last = ", ".join(f"{device} (last report {say_age(silent[device], now_ms)})" for device in gone[:5])
                more = f" and {len(gone) - 5} more" if len(gone) > 5 else ""
                ui.label(f"Silent: {last}{more}").classes("ls-hint")


def say_age(at_ms: int | None, now_ms: int) -> str:
    """How long ago, in the largest unit that still counts to two.

    >>> say_age(0, 90_000), say_age(0, 7_200_000), say_age(None, 0)
    ('90 s ago', '2 h ago', 'never')
    """
    if at_ms is None:
        return "never"
    seconds = max(0, now_ms - at_ms) / 1000
    for size, name in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name} ago"
    return f"{seconds:.0f} s ago"
