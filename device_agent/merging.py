"""Several reports become one that counts the same frames: what a full spool does with its oldest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from device_agent.contract.histogram import ConfidenceHistogram
from device_agent.contract.report import MERGED, STAGES, DeviceReport, ImageQuality, Shadow

SPANS_MS = (600_000, 3_600_000, 86_400_000)
"""How much time a merged report stands for: first ten minutes, then an hour, then a day."""


def mergeable(earlier: DeviceReport, later: DeviceReport) -> bool:
    """Do both belong to one spool, boot and model, the one right after the other?"""
    return (
        (earlier.epoch, earlier.boot, earlier.model) == (later.epoch, later.boot, later.model)
        and (earlier.histogram.classes, earlier.histogram.bins_id) == (later.histogram.classes, later.histogram.bins_id)
        and earlier.sequence + 1 == first_sequence(later)
        and _one_candidate(earlier, later)
    )


def _one_candidate(earlier: DeviceReport, later: DeviceReport) -> bool:
    """Would their shadows add up?"""
    return earlier.shadow is None or later.shadow is None or earlier.shadow.model == later.shadow.model


def first_sequence(report: DeviceReport) -> int:
    """The lowest sequence that the report stands for."""
    return report.merged[0] if report.merged else report.sequence


def merge(reports: Sequence[DeviceReport]) -> DeviceReport:
    """The sum of reports that follow each other: counts add up, times and the board's figures are those of the last."""
    first, last = reports[0], reports[-1]
    flags = MERGED
    for report in reports:
        flags |= report.flags
    tests = [report.self_test_ok for report in reports if report.self_test_ok is not None]
    return msgspec.structs.replace(
        last,
        **{name: sum(getattr(report, name) for report in reports) for name in _COUNTS},
        histogram=_histogram([report.histogram for report in reports]),
        latency=[_add(report.latency[k] for report in reports if len(report.latency) > k) for k in range(len(STAGES))],
        quality=_quality(reports),
        shadow=_shadow([report.shadow for report in reports if report.shadow is not None]),
        self_test_ok=all(tests) if tests else None,
        flags=flags,
        merged=(first_sequence(first), last.sequence),
    )


def halve(reports: Sequence[DeviceReport]) -> list[DeviceReport]:
    """Reports that were never stored, with neighbours of one model added up: about half as many, the same frames.

    Each gets one sequence later on, so none names a range.
    """
    out: list[DeviceReport] = []
    for at in range(0, len(reports), 2):
        pair = reports[at : at + 2]
        if len(pair) == 2 and pair[0].model == pair[1].model and _one_candidate(*pair):
            pair = [msgspec.structs.replace(merge(pair), merged=None, flags=pair[0].flags | pair[1].flags)]
        out += pair
    return out


_COUNTS = ("interval_ms", "frames", "dropped", "parts", "same", "identical")


def _histogram(parts: Sequence[ConfidenceHistogram]) -> ConfidenceHistogram:
    return msgspec.structs.replace(parts[-1], cells=_add(part.cells for part in parts))


def _add(lists: Iterable[list[int]]) -> list[int]:
    """Sum of flat lists of key, count, key, count, ...; keys grow."""
    total: dict[int, int] = {}
    for flat in lists:
        for key, count in zip(flat[::2], flat[1::2], strict=True):
            total[key] = total.get(key, 0) + count
    return [number for key in sorted(total) for number in (key, total[key])]


def _shadow(parts: Sequence[Shadow]) -> Shadow | None:
    """The sum of what the last candidate said."""
    if not parts:
        return None
    parts = [part for part in parts if part.model == parts[-1].model]
    frames, agreed = sum(part.frames for part in parts), sum(part.agreed for part in parts)
    lists = (_add(getattr(part, name) for part in parts) for name in ("matrix", "cells", "latency"))
    return Shadow(parts[-1].model, frames, agreed, *lists)


def _quality(reports: Sequence[DeviceReport]) -> ImageQuality | None:
    seen = [(report.quality, report.frames) for report in reports if report.quality and report.frames]
    frames = sum(count for _, count in seen)
    if not frames:
        return None
    names = ("brightness", "sharpness", "clipped_permille")
    return ImageQuality(*(round(sum(getattr(one, name) * count for one, count in seen) / frames) for name in names))
