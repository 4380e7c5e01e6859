"""What labels and golden parts found, as alerts and retraining triggers take it."""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec

from device_agent.contract.alert import Severity


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A fall of a figure that was measured. Idempotent by `id`, which says of what it is and since when, so that the
    same finding seen again is the same alert. `scope` is a device, or a model for scope_kind "model"; `value` with
    its 95 % limits is in [0, 1], `claim` what it should be at least; `log_e` the natural log of the e-value; `onset_ms`
    and `at_ms` wall-clock ms. `may_trigger`: evidence of this kind may open a retraining trigger with `reason`."""

    id: str
    kind: Literal["golden", "labels", "calibration"]
    severity: Severity
    scope_kind: Literal["device", "model"]
    scope: str
    model: str
    figure: str
    onset_ms: int
    at_ms: int
    value: float
    low: float
    high: float
    claim: float
    log_e: float | None
    parts: int
    text: str
    may_trigger: bool
    reason: Literal["golden", "labels"]
    provenance: Literal["measured"] = "measured"


def finding_id(kind: str, scope: str, model: str, figure: str, onset_ms: int) -> str:
    """Sixteen hexadecimal digits.

    >>> finding_id("golden", "press-1", "00", "recall", 5) == finding_id("golden", "press-1", "00", "recall", 5)
    True
    """
    return hashlib.sha256("\0".join([kind, scope, model, figure, str(onset_ms)]).encode()).hexdigest()[:16]
