"""One device's past in the store: what its page draws."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import numpy as np
from sqlalchemy import select
from sqlalchemy.engine import Connection

from device_agent.contract.alert import Alert
from device_agent.contract.histogram import BINS
from device_agent.contract.latency import BUCKETS, quantile_ms
from device_agent.contract.report import STAGES, DeviceReport, read_report
from device_agent.detector.normal import Learning, expected_cells
from fleet.alerts import read_alerts
from fleet.models import read_models
from fleet.overview import find_devices
from fleet.reading import Reading
from fleet.registry import Device
from fleet.schema import EVENT, MODEL, REPORT
from fleet.status import read_readings

POINTS = 240
WINDOWS = 60


class Point(msgspec.Struct, frozen=True):
    """One report: score (natural log of an e-value), p50 of inference in ms, image quality."""

    at_ms: int
    score: float | None
    frames: int
    infer_ms: float | None
    brightness: int | None
    sharpness: int | None


class Stage(msgspec.Struct, frozen=True):
    """Latency of one stage over the last `WINDOWS` reports, ms; None when it was not measured."""

    name: str
    p50_ms: float | None
    p99_ms: float | None


class DeviceHistory(msgspec.Struct, frozen=True, kw_only=True):
    """`seen`: shares of frames over the last `WINDOWS` reports, `normal`: those expected; both [class][bin], adding up
    to 1, None when there is nothing yet. `gaps`: from and to in ms, where more than three intervals were silent."""

    device: Device
    model_name: str
    labels: list[str]
    reading: Reading | None
    seen: list[list[float]] | None
    normal: list[list[float]] | None
    frames_seen: int
    points: list[Point]
    stages: list[Stage]
    gaps: list[tuple[int, int]]
    events: list[tuple[int, str, str]]
    alerts: list[Alert]


def read_history(tx: Connection, name: str, *, points: int = POINTS) -> DeviceHistory | None:
    """The past of a device, None when nobody knows it."""
    if not (found := find_devices(tx, [name])):
        return None
    (device,) = found
    newest = (
        select(REPORT.c.at_ms, REPORT.c.score, REPORT.c.payload)
        .where(REPORT.c.device == name)
        .order_by(REPORT.c.at_ms.desc())
        .limit(points)
    )
    rows = [(row.at_ms, row.score, read_report(row.payload)) for row in reversed(tx.execute(newest).all())]
    same_model = [report for _, _, report in rows if report.model.hex() == device.model][-WINDOWS:]
    model = read_models(tx).get(device.model or "")
    normal = None if model is None else expected_cells(model.labels, model.baseline, _learning(tx, model.model))
    counts = sum((report.histogram.dense() for report in same_model), np.zeros((1, BINS), np.int64))
    return DeviceHistory(
        device=device,
        model_name=model.name if model else "",
        labels=[label.name for label in model.labels] if model else [],
        reading=read_readings(tx, [name]).get((name, device.model or "")),
        seen=(counts / counts.sum()).tolist() if counts.sum() else None,
        normal=None if normal is None else normal.tolist(),
        frames_seen=int(counts.sum()),
        points=[_point(at_ms, score, report) for at_ms, score, report in rows],
        stages=_stages(same_model),
        gaps=_gaps([at_ms for at_ms, _, _ in rows], device.interval_ms or 60_000),
        events=[
            (row.at_ms, row.kind, row.text)
            for row in tx.execute(select(EVENT).where(EVENT.c.device == name).order_by(EVENT.c.at_ms.desc()).limit(20))
        ],
        alerts=read_alerts(tx, closed=True, device=name, limit=20),
    )


def _learning(tx: Connection, model: str) -> Learning | None:
    text = tx.scalar(select(MODEL.c.learned).where(MODEL.c.model == model))
    return msgspec.json.decode(text, type=Learning) if text else None


def _point(at_ms: int, score: float | None, report: DeviceReport) -> Point:
    infer = STAGES.index("infer")
    quality = report.quality
    return Point(
        at_ms=at_ms,
        score=score,
        frames=report.frames,
        infer_ms=quantile_ms(_buckets([report.latency[infer]]), 0.5) if len(report.latency) > infer else None,
        brightness=quality.brightness if quality else None,
        sharpness=quality.sharpness if quality else None,
    )


def _stages(reports: list[DeviceReport]) -> list[Stage]:
    stages = []
    for number, name in enumerate(STAGES):
        counts = _buckets([report.latency[number] for report in reports if len(report.latency) > number])
        stages.append(Stage(name, quantile_ms(counts, 0.5), quantile_ms(counts, 0.99)))
    return stages


def _buckets(sparse: list[list[int]]) -> list[int]:
    counts = [0] * BUCKETS
    for flat in sparse:
        for bucket, count in zip(flat[::2], flat[1::2], strict=True):
            counts[bucket] += count
    return counts


def _gaps(times: list[int], interval_ms: int) -> list[tuple[int, int]]:
    return [(before, after) for before, after in pairwise(times) if after - before > 3 * interval_ms]
