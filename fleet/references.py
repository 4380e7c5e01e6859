"""A device's own normal, learnt from its first healthy days on a line: far closer than the validation images.

A device is judged by its bundle's baseline until it has three days of reports of one model in which nothing was found.
A deployment, a change-over or an acknowledgement begins these days anew. What was learnt stays as it is: a reference
that followed the device would follow its faults.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import delete, select, update
from sqlalchemy.engine import Connection

from device_agent.contract.errors import BadInput
from device_agent.contract.histogram import BINS
from device_agent.contract.report import DeviceReport, read_report
from device_agent.detector import Reference, StreamSet, reference_from_history
from fleet.alerts import read_alerts
from fleet.schema import REFERENCE, REPORT
from fleet.store import upsert

DAY_MS, HOUR_MS = 86_400_000, 3_600_000
FROM_MS, UNTIL_MS = 3 * DAY_MS, 7 * DAY_MS
"""A reference is learnt from three days at least, and from seven at most."""
LEAST_WINDOWS = 72
"""Reports that three days must hold: one an hour."""
LEAST_SHARE = 0.5
"""Of the reports that the days should have; with fewer the line, or the device, was not itself."""


CHUNK = 500


def begin(tx: Connection, devices: Iterable[tuple[str, str]], now_ms: int) -> None:
    """Learn (device, model) from now on; what was learnt before is forgotten."""
    blank = {"since_ms": now_ms, "learnt_ms": None, "document": None}
    upsert(tx, REFERENCE, [{"device": device, "model": model, **blank} for device, model in devices])


def forget_model(tx: Connection, model: str, devices: list[str]) -> None:
    """Forget what was learnt of a model for these devices: its streams may be others now."""
    for start in range(0, len(devices), CHUNK):
        part = devices[start : start + CHUNK]
        tx.execute(delete(REFERENCE).where(REFERENCE.c.model == model, REFERENCE.c.device.in_(part)))


def put_back(tx: Connection, devices: Collection[str], now_ms: int) -> None:
    """Something was found of devices whose days should be healthy ones: those that are not learnt yet begin anew."""
    names = sorted(devices)
    for start in range(0, len(names), CHUNK):
        not_learnt = REFERENCE.c.device.in_(names[start : start + CHUNK]) & REFERENCE.c.learnt_ms.is_(None)
        tx.execute(update(REFERENCE).where(not_learnt).values(since_ms=now_ms))


def due(
    tx: Connection, now_ms: int, *, limit: int = 20, mine: Callable[[str], bool] = lambda _device: True
) -> list[tuple[str, str, int]]:
    """(device, model, since) of devices that have been learnt for three days and are not learnt yet, the longest first;
    those that an open alert names wait until it is closed. Only those that are `mine`."""
    asked = (
        select(REFERENCE.c.device, REFERENCE.c.model, REFERENCE.c.since_ms)
        .where(REFERENCE.c.learnt_ms.is_(None), REFERENCE.c.since_ms <= now_ms - FROM_MS)
        .order_by(REFERENCE.c.since_ms, REFERENCE.c.device)
    )
    held = _named(tx)
    found: list[tuple[str, str, int]] = []
    for row in tx.execute(asked):
        if row.device not in held and mine(row.device):
            found.append((row.device, row.model, row.since_ms))
        if len(found) >= limit:
            break
    return found


def learn(tx: Connection, device: str, model: str, streams: StreamSet, since_ms: int) -> Reference | None:
    """The reference (one row) of a device from its reports of `model` since `since_ms`; None where there are too few.

    Reports that stand for several, and those without a frame, are left out.
    """
    asked = (
        select(REPORT.c.payload)
        .where(
            REPORT.c.device == device,
            REPORT.c.at_ms >= since_ms,
            REPORT.c.at_ms < since_ms + UNTIL_MS,
            REPORT.c.model == model,
        )
        .order_by(REPORT.c.at_ms)
    )
    reports = [report for row in tx.execute(asked) if (report := read_report(row.payload)).frames and not report.merged]
    classes = streams.masks.shape[1] // BINS
    reports = [report for report in reports if report.histogram.classes == classes]
    if len(reports) < LEAST_WINDOWS:
        return None
    interval_ms = int(np.median([report.interval_ms for report in reports]))
    if len(reports) * interval_ms < LEAST_SHARE * FROM_MS:
        return None
    counts, same = _arrays(reports)
    return reference_from_history(counts, same, streams, block=max(1, round(HOUR_MS / max(interval_ms, 1))))


def keep(tx: Connection, device: str, model: str, since_ms: int, reference: Reference, now_ms: int) -> None:
    """Store what was learnt, for the next start."""
    row = {"device": device, "model": model, "since_ms": since_ms, "learnt_ms": now_ms, "document": pack(reference)}
    upsert(tx, REFERENCE, [row])


def put_off(tx: Connection, device: str, model: str, now_ms: int) -> None:
    """There were too few reports: its days begin anew."""
    begin(tx, [(device, model)], now_ms)


def known(
    tx: Connection, streams: StreamSet, model: str, devices: Collection[str] | None = None
) -> dict[str, Reference]:
    """What was learnt of the devices that run `model`, of all if none are named; of other streams it is left out."""
    asked = select(REFERENCE.c.device, REFERENCE.c.document).where(
        REFERENCE.c.model == model, REFERENCE.c.learnt_ms.is_not(None)
    )
    found: dict[str, Reference] = {}
    for row in tx.execute(asked):
        if devices is None or row.device in devices:
            try:
                found[row.device] = unpack(row.document, len(streams.names))
            except BadInput:
                continue
    return found


def pack(reference: Reference) -> bytes:
    """One row in float32: three numbers a stream and three more, 120 bytes for nine streams."""
    rows = [reference.p0[0], reference.bound[0], reference.phi[0]]
    single = [reference.agree[0], reference.same[0], reference.longest[0]]
    return np.concatenate([*rows, single]).astype("<f4").tobytes()


def unpack(content: bytes, streams: int) -> Reference:
    """The reference that `pack` wrote, for so many streams.

    Raises:
        BadInput: other bytes, or other streams.
    """
    if len(content) != 4 * (3 * streams + 3):
        raise BadInput(f"reference: {len(content)} bytes are none of {streams} streams")
    numbers = np.frombuffer(content, "<f4").astype(np.float64)
    p0, bound, phi = (part[None] for part in numbers[:-3].reshape(3, streams))
    agree, same, longest = (np.array([number]) for number in numbers[-3:])
    return Reference(p0=p0, bound=bound, phi=phi, agree=agree, same=same, longest=longest, armed=np.ones(1, np.bool_))


def _arrays(reports: list[DeviceReport]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Counts (windows, cells) and same-cell pairs (windows,)."""
    counts = np.stack([report.histogram.dense().ravel() for report in reports])
    return counts, np.array([report.same for report in reports], np.int64)


def _named(tx: Connection) -> set[str]:
    """Devices that an open alert names."""
    return {device for alert in read_alerts(tx) for device in alert.devices}
