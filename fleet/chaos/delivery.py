"""Waiting until the monitor has everything that agents have committed, and ending them in order."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from sqlalchemy import Engine, select

from device_agent.contract.report import read_report
from fleet.chaos.audit import committed_keys
from fleet.chaos.device import Device
from fleet.schema import REPORT

PATIENCE_S = 180.0
LAST_S = 10.0
NEWEST = 20


def deliver(engine: Engine, devices: Sequence[Device], interval_s: float) -> float:
    """Wait until nothing is missing in the store, and end the agents in order; seconds that it took.

    What an agent could not deliver before it ended is delivered by a further run.
    """
    start_s = time.monotonic()
    behind = list(devices)
    while behind and time.monotonic() - start_s < PATIENCE_S:
        waiting = behind
        for device in waiting:
            if not device.program.running:
                device.start()
        begun_s = time.monotonic() + interval_s  # a report that was closed before says nothing of what is now
        wait_for(lambda: all(_is_up_to_date(engine, device, begun_s) for device in waiting))  # noqa: B023
        for device in waiting:
            device.stop()
        wait_for(lambda: not any(lacking(engine, device) for device in waiting), LAST_S)  # noqa: B023
        behind = [device for device in waiting if lacking(engine, device)]
    return time.monotonic() - start_s


def lacking(engine: Engine, device: Device) -> int:
    """Reports that the device is known to have committed and the store does not have."""
    return len(committed_keys(device) - device.damaged - _held(engine, device))


def _held(engine: Engine, device: Device) -> set[tuple[int, int]]:
    """Keys that the store has."""
    asked = select(REPORT.c.epoch, REPORT.c.first, REPORT.c.sequence).where(REPORT.c.device == device.name)
    with engine.connect() as tx:
        rows = tx.execute(asked).all()
    return {(row.epoch, sequence) for row in rows for sequence in range(row.first, row.sequence + 1)}


def wait_for(true: Callable[[], bool], timeout_s: float = PATIENCE_S) -> bool:
    """Was it true within the time? Asked twice a second."""
    end_s = time.monotonic() + timeout_s
    while not true():
        if time.monotonic() >= end_s:
            return False
        time.sleep(0.5)
    return True


def _is_up_to_date(engine: Engine, device: Device, begun_s: float) -> bool:
    """Is there a report that was closed after `begun_s`, and nothing missing below the newest of each epoch? Then the
    rest comes live."""
    asked = select(REPORT.c.payload).where(REPORT.c.device == device.name).order_by(REPORT.c.received_ms.desc())
    with engine.connect() as tx:
        newest = [read_report(row.payload).monotonic_ms for row in tx.execute(asked.limit(NEWEST))]
    held = _held(engine, device)
    last: dict[int, int] = {}
    for epoch, sequence in held:
        last[epoch] = max(last.get(epoch, 0), sequence)
    due = {(epoch, sequence) for epoch, most in last.items() for sequence in range(1, most + 1)}
    return max(newest, default=0) / 1000 > begun_s and not (due | committed_keys(device)) - device.damaged - held
