"""Gaps: places where frames of a device are in no report. They come as a flag of a report, so none of them is lost."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from device_agent.contract.report import GAP
from fleet.ledger import Entry
from fleet.schema import EVENT
from fleet.store import upsert

KIND = "gap"


def write_gaps(tx: Connection, entries: list[Entry]) -> None:
    """An event for each of the new reports before which its device lost count."""
    rows = {
        (entry.device, entry.report.boot): {
            "device": entry.device,
            "boot": entry.report.boot,
            "monotonic_ms": max(0, entry.report.monotonic_ms - entry.report.interval_ms),
            "kind": KIND,
            "at_ms": entry.at_ms,
            "text": f"boot {entry.report.boot - 1} ended in the middle of an interval; its frames are in no report",
        }
        for entry in entries
        if entry.report.flags & GAP
    }
    upsert(tx, EVENT, list(rows.values()), keep=("at_ms",))


def read_gaps(tx: Connection) -> dict[str, int]:
    """How many boots of each device began with a gap, by its reports or by its own events."""
    asked = select(EVENT.c.device, func.count(EVENT.c.boot.distinct())).where(EVENT.c.kind == KIND)
    return {device: int(count) for device, count in tx.execute(asked.group_by(EVENT.c.device))}
