"""How long what is kept: single reports for days or bytes, hours and days of them for years."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec
from sqlalchemy import delete, func, select, text, tuple_
from sqlalchemy.engine import Connection

from fleet.rollup import DAY_MS, FORGOTTEN, HOUR_MS, ROLLED
from fleet.schema import EVENT, META, REPORT, ROLLUP, SPOOL
from fleet.shadow.tally import forget_tally
from fleet.store import upsert

SLICE, CHUNK = 2_000, 300
"""Reports that go at once, and spools in one query."""
SPEND_S = 0.1


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Days that reports, hours and days of them are kept, and events; `store_mib` the most that the store may take on
    disk before older reports go, None for no such limit. A report goes only once its hour is summed."""

    report_days: int = 7
    hour_days: int = 400
    day_days: int = 1826
    event_days: int = 400
    store_mib: int | None = None


def retain(
    tx: Connection,
    now_ms: int,
    limits: Limits,
    *,
    spend_s: float = SPEND_S,
    clock_s: Callable[[], float] = time.monotonic,
) -> int:
    """Remove what is over its time, the oldest first, for about `spend_s`. Rows that went."""
    end_s, gone = clock_s() + spend_s, 0
    rolled_ms = int(tx.scalar(select(META.c.value).where(META.c.key == ROLLED)) or 0)
    over_ms = min(now_ms - limits.report_days * DAY_MS, rolled_ms)
    if limits.store_mib is not None and store_bytes(tx) > limits.store_mib << 20:
        over_ms = rolled_ms
    over_ms -= over_ms % HOUR_MS
    upsert(tx, META, [{"key": FORGOTTEN, "value": str(max(over_ms, forgotten_ms(tx)))}])
    while clock_s() < end_s:
        removed = _remove_reports(tx, over_ms)
        if not removed:
            break
        gone += removed
        if limits.store_mib is not None and over_ms == rolled_ms and store_bytes(tx) <= limits.store_mib << 20:
            break
    for span, days in (("h", limits.hour_days), ("d", limits.day_days)):
        old = (ROLLUP.c.span == span) & (ROLLUP.c.start_ms < now_ms - days * DAY_MS)
        gone += tx.execute(delete(ROLLUP).where(old)).rowcount
    gone += forget_tally(tx, now_ms - limits.hour_days * DAY_MS)
    gone += tx.execute(delete(EVENT).where(EVENT.c.at_ms < now_ms - limits.event_days * DAY_MS)).rowcount
    return gone


def forgotten_ms(tx: Connection) -> int:
    """Reports of before this time may be gone: one that comes again then cannot be told from a new one."""
    return int(tx.scalar(select(META.c.value).where(META.c.key == FORGOTTEN)) or 0)


def _remove_reports(tx: Connection, until_ms: int) -> int:
    """Remove some of the oldest reports of before a time. They go in the order in which they came."""
    oldest = select(REPORT.c.batch).order_by(REPORT.c.batch).limit(1).offset(SLICE)
    last = tx.scalar(oldest)
    if last is None:
        last = tx.scalar(select(func.max(REPORT.c.batch)))
    if last is None:
        return 0
    old = delete(REPORT).where(REPORT.c.batch <= last, REPORT.c.at_ms < until_ms)
    gone = tx.execute(old.returning(REPORT.c.device, REPORT.c.epoch)).all()
    _forget_spools(tx, sorted({(row.device, row.epoch) for row in gone}))
    return len(gone)


def _forget_spools(tx: Connection, spools: list[tuple[str, int]]) -> None:
    """Forget those of the spools of which no report is left, where the device has another one that has some: every
    power cut begins a spool."""
    of_device = select(REPORT.c.epoch).where(REPORT.c.device == SPOOL.c.device)
    empty = ~of_device.where(REPORT.c.epoch == SPOOL.c.epoch).exists() & of_device.exists()
    for at in range(0, len(spools), CHUNK):
        one_of = tuple_(SPOOL.c.device, SPOOL.c.epoch).in_(spools[at : at + CHUNK])
        tx.execute(delete(SPOOL).where(one_of & empty))


def store_bytes(tx: Connection) -> int:
    """What the store takes on disk, less what it would reuse before it grows."""
    if tx.dialect.name == "postgresql":
        return int(tx.scalar(text("SELECT pg_database_size(current_database())")) or 0)
    pages, free, size = (int(tx.exec_driver_sql(f"PRAGMA {name}").scalar() or 0) for name in
                         ("page_count", "freelist_count", "page_size"))  # fmt: skip
    return (pages - free) * size
