"""DeviceReport: what a device says of one interval. Fields are only ever appended."""

from __future__ import annotations

import zlib
from typing import Annotated

import msgspec
from msgspec import Meta

from device_agent.contract.codec import SCHEMA, decode, encode
from device_agent.contract.errors import BadInput
from device_agent.contract.histogram import BINS, ConfidenceHistogram, check_pairs
from device_agent.contract.latency import BUCKETS

Count = Annotated[int, Meta(ge=0, le=2**40)]
U32 = Annotated[int, Meta(ge=0, lt=2**32)]
U63 = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Monotonic = Annotated[int, Meta(ge=0, le=2**42)]
Interval = Annotated[int, Meta(ge=0, le=7 * 86_400_000)]
ModelId = Annotated[bytes, Meta(min_length=8, max_length=8)]
"""Milliseconds: `Monotonic` up to 139 years, `Interval` up to a week, as a full spool merges reports to days."""
STAGES = ("capture", "preprocess", "infer", "post")

CLOCK_SYNCED, BACKFILL, DEGRADED, MERGED, FOLDED, GAP = 1, 2, 4, 8, 16, 32
"""Bits of DeviceReport.flags; FOLDED is kept free; GAP: frames of before this
report may be in none, because a boot ended without closing its interval, or the spool was damaged."""


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
    """A candidate model beside the one that serves: its id, frames it saw, and frames on which both name one class.

    Since schema 1.1, over the labels that both share, flat lists cell, count, ...: `matrix` with cell = class that was
    served * classes + the candidate's class; `cells` as in the histogram, of the candidate's answers; `latency` with
    the bucket of one answer of the candidate, encoding included.
    """

    model: ModelId
    frames: Count
    agreed: Count
    matrix: list[int] = []
    cells: list[int] = []
    latency: Annotated[list[Count], Meta(max_length=2 * BUCKETS)] = []

    def check(self, classes: int) -> None:
        """Refuse counts that contradict each other.

        Raises:
            BadInput: they do.
        """
        if self.agreed > self.frames:
            raise BadInput(f"shadow: agrees on {self.agreed} of {self.frames} frames")
        for what, flat, size in (
            ("matrix", self.matrix, classes * classes),
            ("cells", self.cells, classes * BINS),
            ("latency", self.latency, BUCKETS),
        ):
            counts = check_pairs(flat, size, f"shadow {what}")[1]
            if flat and int(counts.sum()) != self.frames:
                raise BadInput(f"shadow: {self.frames} frames but {int(counts.sum())} in its {what}")
        diagonal = sum(
            n for pair, n in zip(self.matrix[::2], self.matrix[1::2], strict=True) if pair % (classes + 1) == 0
        )
        if self.matrix and diagonal != self.agreed:
            raise BadInput(f"shadow: agrees on {self.agreed} frames but {diagonal} in its matrix")


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
    monotonic_ms: Monotonic
    interval_ms: Interval
    model: ModelId
    frames: Count
    dropped: Count
    parts: Count
    same: Count
    identical: Count
    histogram: ConfidenceHistogram
    latency: Annotated[list[Annotated[list[Count], Meta(max_length=2 * BUCKETS)]], Meta(max_length=16)] = []
    quality: ImageQuality | None = None
    system: System | None = None
    shadow: Shadow | None = None
    self_test_ok: bool | None = None
    flags: Annotated[int, Meta(ge=0, lt=2**31)] = 0
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
    report.histogram.check()
    total = report.histogram.total
    if total != report.frames:
        raise BadInput(f"report {report.sequence}: {report.frames} frames but {total} in the histogram")
    if report.same > report.frames or report.identical > report.frames or report.parts > report.frames:
        raise BadInput(f"report {report.sequence}: more pairs or parts than its {report.frames} frames")
    for stage in report.latency:
        if len(stage) % 2 or max(stage[::2], default=0) >= BUCKETS:
            raise BadInput(f"report {report.sequence}: latency must be pairs of a bucket under {BUCKETS} and a count")
    if report.shadow is not None:
        report.shadow.check(report.histogram.classes)
    if report.merged and not report.merged[0] <= report.merged[1] == report.sequence:
        raise BadInput(f"report {report.sequence}: merged range {report.merged} must end with its own sequence")
    return report


def write_backfill(reports: list[bytes]) -> bytes:
    """The payload of up to 60 encoded reports, in the order of their sequences."""
    return zlib.compress(encode(Backfill(schema=SCHEMA, reports=reports)), 9)


def open_backfill(payload: bytes) -> list[bytes]:
    """The encoded reports in a backfill payload, not read yet.

    Raises:
        BadInput: not the zlib form of a Backfill, or over 1 MiB when inflated.
    """
    inflate = zlib.decompressobj()
    try:
        content = inflate.decompress(payload, MAX_BACKFILL_BYTES)
    except zlib.error as error:
        raise BadInput(f"backfill: {len(payload)} bytes that zlib cannot read: {error}") from None
    if not inflate.eof or inflate.unused_data:
        raise BadInput(f"backfill: {len(payload)} bytes that are cut, followed by others, or over 1 MiB when inflated")
    return decode(content, Backfill).reports


def read_backfill(payload: bytes) -> list[DeviceReport]:
    """The reports in a backfill payload, each checked as `read_report` does.

    Raises:
        BadInput: not the zlib form of a Backfill, over 1 MiB when inflated, or with a report that is none.
    """
    return [read_report(report) for report in open_backfill(payload)]
