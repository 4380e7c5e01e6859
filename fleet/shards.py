"""What the store has of each shard: the memory of which batches, and which requests its devices have followed.

It is read by whoever takes a shard over, so that nothing is done twice or left out when it changes hands.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from device_agent.contract.topics import shard
from fleet.schema import AUDIT, SHARD
from fleet.store import upsert


class ShardMarks:
    """Of the shards that are held. `clean`: the batch up to which memory need not be had from reports again;
    `granted`: the last request that all of them have followed."""

    def __init__(self, held: Collection[int], clean: int, granted: dict[int, int]) -> None:
        self.held, self.clean, self._granted = frozenset(held), clean, granted

    @classmethod
    def load(cls, tx: Connection, held: Collection[int]) -> ShardMarks:
        """As the store has them; a shard that nobody served yet has followed what was done until now."""
        done = tx.scalar(select(func.max(AUDIT.c.id)).where(AUDIT.c.done_ms.is_not(None))) or 0
        rows = {row.shard: row for row in tx.execute(select(SHARD).where(SHARD.c.shard.in_(held)))}
        clean = min((row.clean for row in rows.values()), default=0) if len(rows) == len(held) else 0
        return cls(held, clean, {one: rows[one].granted if one in rows else done for one in held})

    @property
    def granted(self) -> int:
        """The last request that all shards held have followed."""
        return min(self._granted.values(), default=0)

    def holds(self, device: str) -> bool:
        """Whether the device is in one of the shards held."""
        return shard(device) in self.held

    def waits(self, device: str, request: int) -> bool:
        """Whether the device is in a shard held that has not followed this request yet."""
        granted = self._granted.get(shard(device))
        return granted is not None and granted < request

    def write(self, tx: Connection, clean: int, granted: int) -> None:
        """Store that memory is there up to a batch, and that all requests up to one were followed; 0: none new."""
        self.clean = clean
        self._granted = {one: max(was, granted) for one, was in self._granted.items()}
        rows = [{"shard": one, "clean": clean, "granted": self._granted[one]} for one in sorted(self.held)]
        upsert(tx, SHARD, rows)
