"""Gaps: places where frames of a device are in no report. They come as a flag of a report, so none of them is lost."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from device_agent.contract.report import GAP
from fleet.ledger import Entry, first_of
from fleet.schema import EVENT
from fleet.store import upsert

KIND = "gap"
_BEGIN = "epoch "


def write_gaps(tx: Connection, entries: list[Entry]) -> None:
    """An event for each of the new reports before which its device lost count."""
    rows = [_row(entry) for entry in entries if entry.report.flags & GAP]
    upsert(tx, EVENT, rows, keep=("at_ms",))


def _row(entry: Entry) -> dict[str, object]:
    report = entry.report
    return {
        "device": entry.device,
        "boot": report.boot,
        "monotonic_ms": report.monotonic_ms,
        "kind": KIND,
        "at_ms": entry.at_ms,
        "text": f"{_BEGIN}{report.epoch:08x} from report {first_of(report)}: frames of before are in no report",
    }


def read_gaps(tx: Connection, devices: list[str] | None = None) -> dict[str, int]:
    """How many gaps each device had, or each of these, by its reports; what its own events say of them is not counted
    again."""
    asked = select(EVENT.c.device, func.count(EVENT.c.text.distinct()))
    told = asked.where((EVENT.c.kind == KIND) & EVENT.c.text.startswith(_BEGIN))
    if devices is not None:
        told = told.where(EVENT.c.device.in_(devices))
    return {device: int(count) for device, count in tx.execute(told.group_by(EVENT.c.device))}
