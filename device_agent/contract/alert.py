"""Alert and Trigger: what the monitor tells people, and what it asks of the workstation. JSON documents."""

from __future__ import annotations

from typing import Literal

import msgspec

SEVERITIES = ("info", "warn", "page", "critical")
Severity = Literal["info", "warn", "page", "critical"]


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One finding. `scope` is a device id, or a site for scope_kind "site"; `site` and `product` are those at which it
    was opened. `ratio` is rate over baseline rate with
    its 95 % interval, `log_e` the natural log of the e-value,
    `paged_ms` when it became a page or worse, None while it is none. Times are wall-clock ms since 1970."""

    schema: str = "1.0"
    id: str
    severity: Severity
    scope_kind: Literal["device", "site"]
    scope: str
    site: str
    model: str
    stream: str
    opened_ms: int
    onset_ms: int
    updated_ms: int
    paged_ms: int | None = None
    text: str
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    log_e: float | None = None
    independent_frames: float | None = None
    cause: str = ""
    devices: list[str] = []
    closed_ms: int | None = None
    closed_reason: str = ""
    inhibited_by: str = ""
    product: str = ""


class Trigger(msgspec.Struct, frozen=True, kw_only=True):
    """A request to retrain, idempotent by id; never made from a statistic alone."""

    schema: str = "1.0"
    id: str
    model: str
    reason: Literal["labels", "golden", "person", "rule"]
    created_ms: int
    alerts: list[str] = []
    text: str = ""
    state: Literal["open", "labelling", "training", "shadow", "canary", "done", "rejected", "rolled_back"] = "open"
