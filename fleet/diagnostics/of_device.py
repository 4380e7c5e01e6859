"""Every textbook test on one device's last day, as information: what it shows, against what, and what it is worth."""

from __future__ import annotations

import math

import msgspec
import numpy as np
from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from device_agent.contract.errors import BadInput, NotFound
from device_agent.contract.report import read_report
from device_agent.detector.normal import Learning
from fleet.diagnostics.choice import SAYS, TESTS, false_alarms, make_test
from fleet.diagnostics.contract import BLOCK
from fleet.diagnostics.normal import Dispersion, Integers, Normal, normal_of_model
from fleet.models import Model, read_models
from fleet.schema import DEVICE, MODEL, REPORT

DAY_MS = 86_400_000


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """One test. `statistic`, `threshold` and `over` are of the last block (None before one ended) and `alarms` how many
    reports of the day began an alarm. `false_alarms` says what that is worth, measured on simulated healthy lines."""

    test: str
    means: str
    statistic: float | None
    threshold: float | None
    over: bool
    alarms: int
    false_alarms: str


class Diagnostics(msgspec.Struct, frozen=True, kw_only=True):
    """All tests on the reports of one model in a device's last day. `independent`: frames that are evidence of their
    own."""

    device: str
    model: str
    from_ms: int
    to_ms: int
    reports: int
    frames: int
    independent: int
    tests: list[Shown]


def diagnose(tx: Connection, device: str, *, hours: float = 24.0) -> Diagnostics:
    """The tests on a device's last hours before its newest report, against the model's baseline.

    Args:
        tx: of the store.
        device: its id.
        hours: how far back, > 0.

    Raises:
        NotFound: no such device, or none of its reports.
        BadInput: nothing is known of what is normal for its model.
    """
    name = tx.scalar(select(DEVICE.c.model).where(DEVICE.c.device == device))
    last = tx.scalar(select(func.max(REPORT.c.at_ms)).where(REPORT.c.device == device, REPORT.c.model == name))
    if name is None or last is None:
        raise NotFound(
            f"device {device!r}: the store holds no report of it; `lineside-fleet status` lists those it has"
        )
    first = last - round(hours * DAY_MS / 24)
    payloads = tx.scalars(
        select(REPORT.c.payload)
        .where(REPORT.c.device == device, REPORT.c.model == name, REPORT.c.at_ms > first)
        .order_by(REPORT.c.at_ms)
    )
    reports = [read_report(payload) for payload in payloads]
    normal = _normal(tx, name)
    fitting = [r for r in reports if r.histogram.classes * 24 == normal.shares.shape[1] and r.frames]
    if not fitting:
        raise BadInput(f"device {device!r}: none of its {len(reports)} reports fits the baseline of model {name}")
    cells = np.stack([report.histogram.dense().ravel() for report in fitting])
    frames, same = (np.array([getattr(report, what) for report in fitting]) for what in ("frames", "same"))
    shown = [_show(test, normal, cells, frames, same) for test in TESTS.names()]
    phi = _phi(normal, frames, same)
    return Diagnostics(
        device=device,
        model=name,
        from_ms=first,
        to_ms=last,
        reports=len(fitting),
        frames=int(frames.sum()),
        independent=round(float(frames.sum()) / phi),
        tests=shown,
    )


def _normal(tx: Connection, name: str) -> Normal:
    model: Model | None = read_models(tx).get(name)
    if model is None or model.baseline is None:
        raise BadInput(f"model {name}: no baseline to compare with; `lineside-fleet models import BUNDLE` brings it")
    learned = tx.scalar(select(MODEL.c.learned).where(MODEL.c.model == name))
    return normal_of_model(model.baseline, msgspec.json.decode(learned, type=Learning) if learned else None)


def _show(name: str, normal: Normal, cells: Integers, frames: Integers, same: Integers) -> Shown:
    block = min(BLOCK, len(cells))
    test, row = make_test(name, normal, block=block), np.zeros(1, np.intp)
    alarms, before, found = 0, False, None
    for at in range(len(cells) % block, len(cells)):  # the last block ends with the last report
        found = test.update(row, cells[at : at + 1], frames[at : at + 1], same[at : at + 1])
        alarms += bool(found.alarm[0]) and not before
        before = bool(found.alarm[0])
    statistic, threshold = (float(found.statistic[0]), float(found.threshold[0])) if found else (math.nan, math.inf)
    known = math.isfinite(statistic) and math.isfinite(threshold)
    return Shown(
        test=name,
        means=SAYS.get(name, "a test of another package"),
        statistic=statistic if known else None,
        threshold=threshold if known else None,
        over=before,
        alarms=alarms,
        false_alarms=false_alarms(name),
    )


def _phi(normal: Normal, frames: Integers, same: Integers) -> float:
    dispersion, row = Dispersion(normal), np.zeros(1, np.intp)
    total, pairs = np.array([frames.sum() - len(frames) + 1]), np.array([same.sum()])
    return float(dispersion.update(row, total, pairs)[0])
