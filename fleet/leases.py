"""Shards and workers: who serves which shard, by leases in the database, so that nobody commits for a shard of another.

A worker renews its leases inside of every transaction that writes what its shards sent. The rows stay locked until that
transaction ends: while it runs nobody can take them, and when one was taken before, `Fenced` ends the transaction with
nothing written. All times are those of the database, so clocks of workers do not matter. A worker that dies in the
middle of a transaction, or is stopped there, holds its rows: after `GRACE_MS` more its session is ended by the others.
"""

from __future__ import annotations

import os
import secrets
import socket
import zlib
from collections.abc import Callable, Collection

from sqlalchemy import ColumnElement, Engine, delete, func, select, text, update
from sqlalchemy.engine import Connection

from device_agent.contract.errors import BadInput, LinesideError
from device_agent.contract.topics import SHARDS
from fleet.schema import LEASE, WORKER
from fleet.store import upsert

LEASE_MS, GRACE_MS, LOCK_MS = 15_000, 5_000, 5_000
NUMBER = 0x6C696E66
"""First half of the advisory locks that say whose transaction a session is in."""
NOBODY = ""
ALL = frozenset(range(SHARDS))


class Fenced(LinesideError):
    """Shards of this worker are another's now: what it was about to write must not be written (exit 1)."""


class Alone:
    """The leases of a monitor that shares its store with nobody: everything is its own, always."""

    worker = ""
    shared = False
    held = ALL
    leads = True
    now_ms = 0

    def renew(self, _tx: Connection) -> frozenset[int]:
        """Nothing to renew."""
        return ALL

    def acquire(self) -> frozenset[int]:
        """Nothing to take."""
        return ALL

    def release(self) -> None:
        """Nothing to give away."""


def worker_name() -> str:
    """A name that no other worker has, not even the one before it on this machine."""
    return f"{socket.gethostname()[:40]}-{os.getpid()}-{secrets.token_hex(4)}"


def database_clock_ms(tx: Connection) -> int:
    """Wall-clock ms of the database, now and not when the transaction began."""
    return int(tx.scalar(text("SELECT extract(epoch FROM clock_timestamp()) * 1000")) or 0)


def parse_shards(said: str) -> frozenset[int]:
    """Shards as people write them.

    >>> sorted(parse_shards("0-2,5"))
    [0, 1, 2, 5]

    Raises:
        BadInput: no such shards.
    """
    found: set[int] = set()
    for part in said.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isascii() or not first.isdigit() or (dash and not (last.isascii() and last.isdigit())):
            raise BadInput(f"shards {said!r}: must be numbers and ranges, such as 0-31,40")
        if not int(first) <= int(last or first) < SHARDS:
            raise BadInput(f"shards {said!r}: {part.strip()} is none of 0 to {SHARDS - 1}")
        found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)


class Leases:
    """The shards of one worker. `held` are those that it may serve; on SQLite, which has one worker, always all.
    `shared`: other workers may serve this store too; `now_ms`: the clock that they share, as of the last `renew`.

    Args:
        engine: of the store.
        worker: a name that no other worker has, see `worker_name`.
        only: shards that this worker keeps to; without, it shares with others what nobody keeps to himself.
        clock_ms: the clock that all workers share.
    """

    def __init__(
        self,
        engine: Engine,
        worker: str,
        *,
        only: Collection[int] = (),
        clock_ms: Callable[[Connection], int] = database_clock_ms,
    ) -> None:
        self._engine, self.worker, self._only, self._clock_ms = engine, worker, frozenset(only), clock_ms
        self.shared = engine.dialect.name == "postgresql"
        self._terms: dict[int, int] = {}
        self.now_ms = 0

    @property
    def held(self) -> frozenset[int]:
        """Shards of this worker as far as it knows."""
        return frozenset(self._terms) if self.shared else self._only or ALL

    @property
    def leads(self) -> bool:
        """Whether this worker does what is to be done once for the whole fleet: the one that holds shard 0."""
        return 0 in self.held

    def renew(self, tx: Connection) -> frozenset[int]:
        """Extend the leases and hold them until `tx` ends: to be called first in every transaction that writes what
        shards sent. The shards held, which are those of the last `acquire`.

        Raises:
            Fenced: a shard is another worker's; `tx` must be rolled back, `acquire` says what is held.
        """
        if not self.shared:
            return self.held
        if not self._terms:
            return frozenset()
        tx.execute(text(_BEGIN), {**_lock_of(self.worker), "wait": f"{LOCK_MS}ms"})
        own = update(LEASE).where(LEASE.c.worker == self.worker, LEASE.c.shard.in_(self._terms))
        self.now_ms = self._clock_ms(tx)
        rows = tx.execute(own.values(expires_ms=self.now_ms + LEASE_MS).returning(LEASE.c.shard, LEASE.c.term)).all()
        lost = set(self._terms.items()) - {(row.shard, row.term) for row in rows}
        if lost:
            shards = ", ".join(str(shard) for shard, _ in sorted(lost))
            raise Fenced(f"worker {self.worker}: shards {shards} are served by another worker now; nothing is written")
        return self.held

    def acquire(self) -> frozenset[int]:
        """Take what is free up to a fair share, and give away what is over it; to be called every second or two, out of
        any transaction. The shards held: what the worker knows of any other shard is void.

        Raises:
            NotWritable, Unreachable: the database does not answer.
        """
        if not self.shared:
            return self.held
        with self._engine.begin() as tx:
            now_ms = self._clock_ms(tx)
            self._be_alive(tx, now_ms)
            rows = {row.shard: row for row in tx.execute(select(LEASE).order_by(LEASE.c.shard))}
            kept = {s for s, row in rows.items() if (row.worker, row.term) == (self.worker, self._terms.get(s))}
            mine, share = self._share(tx, now_ms)
            given = [*(kept - mine), *sorted(kept & mine)[share:]]
            self._give(tx, given)
            terms = {shard: self._terms[shard] for shard in kept - set(given)}
            taken = self._take(tx, mine - kept, share - len(terms), now_ms)
            if not taken and len(terms) < share:
                stuck = {rows[s].worker for s in mine - kept if rows[s].expires_ms < now_ms - GRACE_MS}
                self._end_sessions(tx, stuck | {self.worker})
        self._terms = terms | taken
        return self.held

    def release(self) -> None:
        """Give everything away at once, at an orderly end.

        Raises:
            NotWritable, Unreachable: the database does not answer; the leases then run out by themselves.
        """
        if self.shared:
            with self._engine.begin() as tx:
                self._give(tx, list(self._terms))
                tx.execute(delete(WORKER).where(WORKER.c.worker == self.worker))
            self._terms = {}

    def _be_alive(self, tx: Connection, now_ms: int) -> None:
        if tx.scalar(select(func.count()).select_from(LEASE)) != SHARDS:
            rows = [{"shard": s, "worker": NOBODY, "term": 0, "expires_ms": 0} for s in range(SHARDS)]
            upsert(tx, LEASE, rows, keep=("worker", "term", "expires_ms"))
        dead = select(WORKER.c.worker).where(WORKER.c.expires_ms < now_ms - 10 * LEASE_MS)
        tx.execute(delete(WORKER).where(WORKER.c.worker.in_(dead.with_for_update(skip_locked=True))))
        shards = ",".join(map(str, sorted(self._only)))
        upsert(tx, WORKER, [{"worker": self.worker, "shards": shards, "expires_ms": now_ms + LEASE_MS}])

    def _share(self, tx: Connection, now_ms: int) -> tuple[frozenset[int], int]:
        """Shards that this worker may have, and how many of them."""
        if self._only:
            return self._only, len(self._only)
        alive = tx.scalars(select(WORKER.c.shards).where(~_over(WORKER.c.expires_ms, now_ms))).all()
        kept = {int(shard) for one in alive for shard in one.split(",") if shard}
        mine = ALL - kept
        return mine, -(-len(mine) // max(1, alive.count("")))

    def _give(self, tx: Connection, shards: list[int]) -> None:
        own = update(LEASE).where(LEASE.c.worker == self.worker, LEASE.c.shard.in_(shards))
        tx.execute(own.values(worker=NOBODY, term=LEASE.c.term + 1, expires_ms=0))

    def _take(self, tx: Connection, among: Collection[int], most: int, now_ms: int) -> dict[int, int]:
        """Up to `most` shards that nobody serves, with their terms. Locked ones are in somebody's transaction."""
        if not among or most <= 0:
            return {}
        open_to_me = _over(LEASE.c.expires_ms, now_ms) | (LEASE.c.worker == self.worker)
        free = select(LEASE.c.shard).where(LEASE.c.shard.in_(among), open_to_me)
        chosen = tx.scalars(free.order_by(LEASE.c.shard).limit(most).with_for_update(skip_locked=True)).all()
        new = {"worker": self.worker, "term": LEASE.c.term + 1, "expires_ms": now_ms + LEASE_MS}
        taken = update(LEASE).where(LEASE.c.shard.in_(chosen)).values(new).returning(LEASE.c.shard, LEASE.c.term)
        return {row.shard: row.term for row in tx.execute(taken)} if chosen else {}

    def _end_sessions(self, tx: Connection, workers: set[str]) -> None:
        """End the transactions of workers whose leases are long over, and what a lost connection of this worker left;
        their rows are free a moment later."""
        for worker in sorted(workers - {NOBODY}):
            tx.execute(text(_END_SESSIONS), _lock_of(worker))


def _over(expires_ms: ColumnElement[int], now_ms: int) -> ColumnElement[bool]:
    """Whether a lease ended; one that ends later than any that is given now comes of a clock that was set back."""
    return (expires_ms < now_ms) | (expires_ms > now_ms + 2 * LEASE_MS)


def _lock_of(worker: str) -> dict[str, int]:
    return {"number": NUMBER, "worker": zlib.crc32(worker.encode()) >> 1}


_BEGIN = """
SELECT pg_advisory_xact_lock_shared(CAST(:number AS int), CAST(:worker AS int)), set_config('lock_timeout', :wait, true)
"""
_END_SESSIONS = """
SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid()
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
AND CAST(classid AS bigint) = :number AND CAST(objid AS bigint) = :worker AND objsubid = 2
"""
