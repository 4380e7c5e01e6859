"""Verdict: what the line is told of one part. Sample: metadata of a frame kept for review (the image goes by HTTPS)."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from device_agent.contract.report import U63, ModelId


class Verdict(msgspec.Struct, frozen=True):
    """One frame's answer, a JSON document; `probability` is the calibrated top-1 probability 0 to 1. Where the bundle
    has an operating point, `decision` is "pass", "review" or "reject".

    Where the model did not answer, `label` and `role` are empty, `probability` and `log_odds` 0, `reason` says why, and
    `decision` is what the line was promised for that case; `late` says that the time for an answer had passed. `part`
    counts the parts, where a trigger or the source tells them apart; `device` names the camera where one agent has
    several.
    """

    frame: int
    label: str
    role: str
    probability: float
    log_odds: float
    monotonic_ms: int
    late: bool = False
    schema: str = "1.0"
    decision: str | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    part: int | UnsetType = UNSET
    device: str | UnsetType = UNSET


class Sample(msgspec.Struct, frozen=True, array_like=True):
    """A frame kept for review: `cell` is class * 24 + bin, `sha256` of the encrypted image file."""

    schema: int
    model: ModelId
    wall_ms: U63
    cell: int
    sha256: Annotated[bytes, Meta(min_length=32, max_length=32)]
    reason: str = ""
