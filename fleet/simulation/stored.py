"""A simulated fleet into a store, through the monitor's own ingest, as fast as it goes."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec
from sqlalchemy import Engine, func, select
from sqlalchemy.engine import Connection

from device_agent.contract.codec import encode
from fleet.detector_fleet import Settings
from fleet.inbox import Message, read_batch
from fleet.ingest import Ingest
from fleet.models import write_models
from fleet.registry import import_places
from fleet.schema import REPORT
from fleet.simulation.plant import SimulatedFleet
from fleet.store import one_writer
from fleet.worlds import DAY
from fleet.worlds.stream import LATEST_MIN

BATCH, SPAN_MIN = 500, 10
"""Reports of one transaction, and minutes that it spans at most."""


class StoredRun(msgspec.Struct, frozen=True, kw_only=True):
    """What was stored. `skipped_minutes`: they were in the store already; `seconds` is measured, ingest alone."""

    devices: int
    days: int
    minutes: int
    skipped_minutes: int
    stored: int
    repeated: int
    rejected: int
    alerts: dict[str, int]
    seconds: float
    us_a_report: float | None


def store_fleet(
    engine: Engine,
    fleet: SimulatedFleet,
    days: int,
    settings: Settings,
    *,
    end_ms: int,
    hold_windows: int = 3,
    tell: Callable[[str], None] = lambda _line: None,
    clock_s: Callable[[], float] = time.perf_counter,
) -> StoredRun:
    """Fill a store with the days before `end_ms`. One that was filled in part by the same fleet goes on where it was.

    Args:
        engine: of a store that no monitor serves.
        fleet: the devices; intervals of 60,000 ms.
        days: how many.
        settings: of the detector.
        end_ms: wall clock at the end of the last day.
        tell: called with a line of progress a day.

    Raises:
        BadInput: a monitor serves the store.
        NotWritable: the store cannot be written.
    """
    alerts: dict[str, int] = {}
    with one_writer(engine):
        with engine.begin() as tx:
            write_models(tx, fleet.models())
            import_places(tx, fleet.places())
            skip, start_ms = _done(tx, fleet, end_ms - days * DAY * fleet.interval_ms)
        ingest = Ingest(engine, settings, hold_windows=hold_windows)
        stored = repeated = rejected = number = 0
        seconds = 0.0
        waiting = [
            Message(fleet.topic(k, "birth"), encode(fleet.birth(k)), start_ms) for k in range(fleet.devices) if not skip
        ]
        for number, said in enumerate(fleet.minutes(days, start_ms=start_ms, skip=skip), start=1):
            now_ms = start_ms + number * fleet.interval_ms + 500
            waiting += [Message(fleet.topic(one.device, "report"), one.payload, now_ms) for one in said]
            if len(waiting) >= BATCH or number % SPAN_MIN == 0 or number >= days * DAY:
                messages, waiting = waiting, []
                began = clock_s()
                outcome = ingest.process(read_batch(messages), now_ms)
                seconds += clock_s() - began
                stored, repeated = stored + outcome.stored, repeated + outcome.repeated
                rejected += outcome.rejected
                for change in outcome.changes:
                    if change.what == "opened":
                        severity = change.alert.severity
                        alerts[severity] = alerts.get(severity, 0) + 1
            if number % DAY == 0:
                tell(f"day {number // DAY} of {days}: {stored} reports stored, {sum(alerts.values())} alerts opened")
    return StoredRun(
        devices=fleet.devices,
        days=days,
        minutes=number,
        skipped_minutes=skip,
        stored=stored,
        repeated=repeated,
        rejected=rejected,
        alerts=alerts,
        seconds=round(seconds, 3),
        us_a_report=round(seconds / stored * 1e6, 1) if stored else None,
    )


def _done(tx: Connection, fleet: SimulatedFleet, start_ms: int) -> tuple[int, int]:
    """Minutes that every device has later ones of in the store, and the start that they tell of."""
    own = {fleet.name(k): fleet.epoch(k) for k in range(fleet.devices)}
    latest = select(REPORT.c.device, REPORT.c.epoch, func.max(REPORT.c.sequence)).where(REPORT.c.device.like("sim-%"))
    rows = tx.execute(latest.group_by(REPORT.c.device, REPORT.c.epoch))
    held = {device: sequence for device, epoch, sequence in rows if own.get(device) == epoch}
    if len(held) < fleet.devices:
        return 0, start_ms
    one = min(own)
    first = tx.execute(
        select(REPORT.c.sequence, REPORT.c.at_ms)
        .where(REPORT.c.device == one, REPORT.c.epoch == own[one])
        .order_by(REPORT.c.sequence)
        .limit(1)
    ).first()
    margin = LATEST_MIN if fleet.world.late else 0
    known = start_ms if first is None else first.at_ms - first.sequence * fleet.interval_ms
    return max(0, min(held.values()) - margin), known
