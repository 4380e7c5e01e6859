"""Rows of an export, a batch at a time and a device at a time, so that memory stays what it is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.engine import Connection

from device_agent.contract.errors import NotFound
from fleet.export.formats import Row
from fleet.export.manifest import Request
from fleet.export.tables import TABLES, Chosen, Labels
from fleet.rollup import DAY_MS
from fleet.schema import DEVICE, REPORT

BATCH_ROWS, BATCH_COUNTS = 8_192, 1 << 21
"""A batch ends at so many rows, or at so many counts in the dense lists of its rows (16 MiB)."""
CHUNK = 1_000
_DAYS_OF_DEVICES = text("""
WITH RECURSIVE
  named(device) AS (
    SELECT min(device) FROM report
    UNION ALL
    SELECT (SELECT min(report.device) FROM report WHERE report.device > named.device)
    FROM named WHERE named.device IS NOT NULL),
  seen(device, at_ms) AS (
    SELECT device, (SELECT min(report.at_ms) FROM report WHERE report.device = named.device AND report.at_ms >= :start)
    FROM named WHERE device IS NOT NULL
    UNION ALL
    SELECT device, (SELECT min(report.at_ms) FROM report
                    WHERE report.device = seen.device AND report.at_ms >= (seen.at_ms / :day + 1) * :day)
    FROM seen WHERE seen.at_ms IS NOT NULL AND seen.at_ms < :stop)
SELECT device, at_ms / :day FROM seen WHERE at_ms IS NOT NULL AND at_ms < :stop ORDER BY device
""")
"""Which devices reported on which days, by leaps through the index on device and time: rows are not read."""
MOST_MS = 2**62


def days_of(tx: Connection, what: str, chosen: Chosen, from_ms: int, until_ms: int) -> dict[int, list[str]]:
    """Days since 1970 with rows of a time, in their order, and for reports the devices that reported on each."""
    found: dict[int, list[str]] = defaultdict(list)
    if what == "reports":
        asked = {"start": from_ms, "stop": min(until_ms, MOST_MS), "day": DAY_MS}
        wanted = _wanted(tx, chosen)
        for device, day in tx.execute(_DAYS_OF_DEVICES, asked):
            if wanted is None or device in wanted:
                found[day].append(device)
    else:
        moment = TABLES[what].moment
        rows = TABLES[what].select(chosen, from_ms, until_ms).order_by(None)
        for day in tx.scalars(rows.with_only_columns(moment // DAY_MS, maintain_column_froms=True).distinct()):
            found[int(day)] = []
    return {day: found[day] for day in sorted(found)}


def check_chosen(tx: Connection, chosen: Chosen) -> None:
    """Refuse names that nobody has.

    Raises:
        NotFound: a device that is not registered and has no reports, or a site without devices.
    """
    for name in chosen.devices:
        tables = (select(table.c.device).where(table.c.device == name).limit(1) for table in (DEVICE, REPORT))
        if not any(tx.scalar(asked) for asked in tables):
            raise NotFound(f"device {name!r}: is not known; `lineside-fleet status` lists them")
    for site in chosen.sites:
        if not tx.scalar(select(DEVICE.c.site).where(DEVICE.c.site == site).limit(1)):
            raise NotFound(f"site {site!r}: has no devices; `lineside-fleet status` lists them")


def weigh(tx: Connection, devices: Iterable[str], from_ms: int, until_ms: int) -> str:
    """What tells the reports of a time from others, without reading them: they are never changed, only added, with a
    higher number of their batch, and taken away."""
    count, newest, offsets = 0, 0, 0
    for device in devices:
        rows, batch, total = tx.execute(
            select(func.count(), func.max(REPORT.c.batch), func.sum(REPORT.c.at_ms - from_ms)).where(
                REPORT.c.device == device, REPORT.c.at_ms >= from_ms, REPORT.c.at_ms < until_ms
            )
        ).one()
        count, newest, offsets = count + rows, max(newest, batch or 0), offsets + int(total or 0)
    return f"{count}-{newest}-{offsets}"


def batches(
    tx: Connection,
    request: Request,
    from_ms: int,
    until_ms: int,
    *,
    devices: Iterable[str] = (),
    labels: Labels,
) -> Iterator[list[Row]]:
    """The rows of a time. `devices`: those that have any, for reports."""
    table = TABLES[request.what]
    if request.what == "reports":
        rows = _reports(tx, devices, from_ms, until_ms, labels)
    else:
        found = tx.execution_options(yield_per=CHUNK).execute(table.select(request.chosen, from_ms, until_ms))
        rows = (row for row in (table.value(one, labels) for one in found) if table.keeps(row, request.chosen))
    return _cut(table.tidy(rows, labels), None) if request.tidy else _cut(rows, table.cells or None)


def _reports(tx: Connection, devices: Iterable[str], from_ms: int, until_ms: int, labels: Labels) -> Iterator[Row]:
    table, streamed = TABLES["reports"], tx.execution_options(yield_per=CHUNK)
    for device in devices:
        for row in streamed.execute(table.select(Chosen(devices=(device,)), from_ms, until_ms)):
            yield table.value(row, labels)


def _cut(rows: Iterator[Row], cells: int | None) -> Iterator[list[Row]]:
    """Batches of bounded size, by what the histogram at `cells` takes when it is dense."""
    batch: list[Any] = []
    counts = 0
    for row in rows:
        batch.append(row)
        counts += row[cells][0] if cells is not None else 0
        if len(batch) >= BATCH_ROWS or counts >= BATCH_COUNTS:
            yield batch
            batch, counts = [], 0
    if batch:
        yield batch


def _wanted(tx: Connection, chosen: Chosen) -> set[str] | None:
    """Names of the devices that are chosen, None for all."""
    if not chosen.sites:
        return set(chosen.devices) or None
    return set(tx.scalars(select(DEVICE.c.device).where(*chosen.of(DEVICE.c.device))))
