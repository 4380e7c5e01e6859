"""Sums of peers across workers: devices of one site live in many shards, and shards in several workers.

At the end of each minute a worker writes what its own devices saw together, a row for each model, site and product, in
the transaction of the reports that it counted, and notes the minute for each of its shards. What others may use is the
last minute that all shards have closed: there every device counts once, whoever serves it. A shard that nobody serves
holds this up for `WAIT_MINUTES`, then it is passed over.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import delete, func, select
from sqlalchemy.engine import Connection

from fleet.schema import PEER_MINUTE, PEER_SUM
from fleet.store import upsert

MINUTE_MS = 60_000
WAIT_MINUTES = 5
Floats = NDArray[np.float64]
Place = tuple[str, str]
"""Site and product."""


def close_minute(
    tx: Connection,
    worker: str,
    shards: Collection[int],
    minute: int,
    sums: dict[str, tuple[list[Place], Floats]],
) -> bool:
    """Write the sums of a worker at the end of a minute, and that its shards have closed it. False, and nothing is
    written, where a shard has closed this minute before: with its sums in another row its devices would count twice.

    Args:
        tx: the transaction of the reports that were counted last.
        worker: who writes.
        shards: all that the worker holds.
        minute: since 1970, by the clock that all workers share.
        sums: for each model (or whatever it is that peers have in common, up to 64 characters) the n places, and sums
            (n, k) float64; k is the same for all workers.
    """
    last = tx.scalar(select(func.max(PEER_MINUTE.c.minute)).where(PEER_MINUTE.c.shard.in_(shards)))
    if not shards or (last is not None and minute <= last <= minute + WAIT_MINUTES):
        return False
    rows = [
        {"worker": worker, "minute": minute, "model": model, "site": site, "product": product, "sums": row.tobytes()}
        for model, (places, values) in sorted(sums.items())
        for (site, product), row in zip(places, np.asarray(values, "<f8"), strict=True)
    ]
    upsert(tx, PEER_SUM, rows)
    upsert(tx, PEER_MINUTE, [{"shard": shard, "minute": minute} for shard in sorted(shards)])
    _forget(tx, worker, shards, minute)
    return True


def closed_minute(tx: Connection, minute: int) -> int | None:
    """The last minute up to `minute`, which is the current one, that all shards have closed; None where there is none.
    Shards that closed none for `WAIT_MINUTES` are not waited for.
    """
    recent = PEER_MINUTE.c.minute.between(minute - WAIT_MINUTES, minute)
    shards = tx.scalar(select(func.count(PEER_MINUTE.c.shard.distinct())).where(recent))
    by_all = select(PEER_MINUTE.c.minute).where(recent).group_by(PEER_MINUTE.c.minute).having(func.count() == shards)
    found: int | None = tx.scalar(by_all.order_by(PEER_MINUTE.c.minute.desc()).limit(1))
    return found


def read_sums(tx: Connection, minute: int, model: str, width: int, *, but: str = "") -> tuple[list[Place], Floats]:
    """Sums of a closed minute over all workers, or all `but` one: n places in order, and sums (n, width) float64. Rows
    of another width, as an earlier version wrote them, are left out."""
    asked = select(PEER_SUM.c.site, PEER_SUM.c.product, PEER_SUM.c.sums).where(
        PEER_SUM.c.minute == minute, PEER_SUM.c.model == model, PEER_SUM.c.worker != but
    )
    rows = [row for row in tx.execute(asked) if len(row.sums) == 8 * width]
    places = sorted({(row.site, row.product) for row in rows})
    number = {place: k for k, place in enumerate(places)}
    sums = np.zeros((len(places), width))
    if rows:
        values = np.frombuffer(b"".join(row.sums for row in rows), "<f8").reshape(-1, width)
        np.add.at(sums, [number[row.site, row.product] for row in rows], values)
    return places, sums


def _forget(tx: Connection, worker: str, shards: Collection[int], minute: int) -> None:
    """Take away what nobody asks for any more; of workers that are gone the one that holds shard 0 does it."""
    kept = minute - WAIT_MINUTES, minute + WAIT_MINUTES
    tx.execute(delete(PEER_SUM).where((PEER_SUM.c.worker == worker) & ~PEER_SUM.c.minute.between(*kept)))
    tx.execute(delete(PEER_MINUTE).where(PEER_MINUTE.c.shard.in_(shards) & ~PEER_MINUTE.c.minute.between(*kept)))
    if 0 in shards:
        gone = ~PEER_SUM.c.minute.between(minute - 3 * WAIT_MINUTES, minute + 3 * WAIT_MINUTES)
        tx.execute(delete(PEER_SUM).where(gone))
