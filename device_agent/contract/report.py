"""DeviceReport: what a device says of one interval. Fields are only ever appended."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from device_agent.contract.codec import decode
from device_agent.contract.errors import BadInput
from device_agent.contract.histogram import ConfidenceHistogram
from device_agent.contract.latency import BUCKETS

Count = Annotated[int, Meta(ge=0, le=2**53)]
U32 = Annotated[int, Meta(ge=0, lt=2**32)]
U63 = Annotated[int, Meta(ge=0, lt=2**63)]
ModelId = Annotated[bytes, Meta(min_length=8, max_length=8)]
STAGES = ("capture", "preprocess", "infer", "post")

CLOCK_SYNCED, BACKFILL, DEGRADED, MERGED, FOLDED = 1, 2, 4, 8, 16
"""Bits of DeviceReport.flags; FOLDED: tail cells were folded to keep the report under 2 KB."""


class ImageQuality(msgspec.Struct, frozen=True, array_like=True):
    """Means over the interval: brightness 0 to 255, sharpness (variance of the Laplacian, 0 to 65,025) and clipped
    pixels in per mille, all rounded to integers."""

    brightness: Annotated[int, Meta(ge=0, le=255)]
    sharpness: Annotated[int, Meta(ge=0, le=1_100_000)]
    clipped_permille: Annotated[int, Meta(ge=0, le=1000)]


class System(msgspec.Struct, frozen=True, array_like=True):
    """The board: CPU of all cores in percent,
    temperature in deg C, resident set and free disk in MiB; None if unknown."""

    cpu_percent: int | None = None
    temperature_c: int | None = None
    throttled: bool | None = None
    rss_mib: int | None = None
    disk_free_mib: int | None = None


class Shadow(msgspec.Struct, frozen=True, array_like=True):
    """A candidate model beside the active one: its id, frames it saw, and frames on which it agreed."""

    model: ModelId
    frames: Count
    agreed: Count


class DeviceReport(msgspec.Struct, frozen=True, array_like=True):
    """One interval of one device and one model.

    `epoch` names the spool, `sequence` grows by one with every report of that spool; (device, epoch, sequence) is the
    key of a report. `dropped` frames were captured and overwritten before inference. `same` counts pairs of
    consecutive frames in the same histogram cell, `identical` pairs of bit-equal frames. `latency` holds for each of
    STAGES a flat list bucket, count, ... `merged` is the range of sequences (first, last) that this report stands for.
    """

    schema: int
    epoch: U32
    sequence: U63
    boot: U32
    wall_ms: U63
    monotonic_ms: U63
    interval_ms: U63
    model: ModelId
    frames: Count
    dropped: Count
    parts: Count
    same: Count
    identical: Count
    histogram: ConfidenceHistogram
    latency: list[list[int]] = []
    quality: ImageQuality | None = None
    system: System | None = None
    shadow: Shadow | None = None
    self_test_ok: bool | None = None
    flags: int = 0
    merged: tuple[U63, U63] | None = None


class Backfill(msgspec.Struct, frozen=True, array_like=True):
    """Up to 60 encoded reports in the order of their sequences; the payload on the wire is its zlib compression."""

    schema: int
    reports: Annotated[list[bytes], Meta(max_length=60)]


MAX_BACKFILL_BYTES = 1 << 20


def read_report(payload: bytes) -> DeviceReport:
    """The report in `payload`, with everything checked that one report can be checked for.

    Raises:
        BadInput: malformed, or with counts that contradict each other.
    """
    report = decode(payload, DeviceReport)
    total = int(report.histogram.dense().sum())
    if total != report.frames:
        raise BadInput(f"report {report.sequence}: {report.frames} frames but {total} in the histogram")
    if report.same > report.frames or report.identical > report.frames or report.parts > report.frames:
        raise BadInput(f"report {report.sequence}: more pairs or parts than its {report.frames} frames")
    for stage in report.latency:
        if len(stage) % 2 or any(not 0 <= bucket < BUCKETS for bucket in stage[::2]) or min(stage, default=0) < 0:
            raise BadInput(f"report {report.sequence}: latency must be pairs of a bucket under {BUCKETS} and a count")
    if report.merged and not report.merged[0] <= report.merged[1] == report.sequence:
        raise BadInput(f"report {report.sequence}: merged range {report.merged} must end with its own sequence")
    return report
