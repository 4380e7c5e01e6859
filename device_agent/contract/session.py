"""State, Birth, Ack and Event: the small messages of one session."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from device_agent.contract.histogram import BINS_ID
from device_agent.contract.manifest import MOST_CLASSES
from device_agent.contract.report import U32, U63, Interval, ModelId

Plain = Annotated[str, Meta(pattern=r"\A[^\x00-\x1f\x7f-\x9f]*\Z")]
"""Text without control characters: it is shown in terminals and on the page."""


class State(msgspec.Struct, frozen=True, array_like=True):
    """Retained, and the last will: is the device there? `session` = boot * 65536 + connection number; a state of an
    older session is ignored."""

    schema: int
    session: U63
    online: bool
    reason: Annotated[str, Meta(max_length=32)] = ""


class Birth(msgspec.Struct, frozen=True, array_like=True):
    """Retained: who speaks. `labels` are the model's classes in order, none where they would make the message too long;
    `interval_ms` is the report interval."""

    schema: int
    epoch: U32
    boot: U32
    agent: Plain
    model: ModelId
    model_name: Plain
    labels: Annotated[list[Plain], Meta(max_length=MOST_CLASSES)]
    runtime: Plain
    interval_ms: Interval
    bins_id: str = BINS_ID
    hardware: Plain = ""
    clock_synced: bool | None = None
    encoding: str = "msgpack"


class Ack(msgspec.Struct, frozen=True, array_like=True):
    """Everything up to `sequence` of `epoch` is committed to the monitor's database."""

    schema: int
    epoch: U32
    sequence: U63


class Event(msgspec.Struct, frozen=True, array_like=True):
    """Something that a person may want to know: breaker, rollback, camera_lost, clock_step, spool_merged, gap ..."""

    schema: int
    boot: U32
    monotonic_ms: U63
    wall_ms: U63
    kind: Annotated[str, Meta(max_length=32)]
    text: Annotated[str, Meta(max_length=300)] = ""
