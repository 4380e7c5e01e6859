"""Heartbeat: what the monitor says of itself in its store, so that a page without news does not blame the devices."""

from __future__ import annotations

import msgspec
from sqlalchemy import select
from sqlalchemy.engine import Connection

from fleet.schema import META
from fleet.store import upsert
from fleet.wording import say_time

KEY = "monitor"
BEAT_MS = 5_000
STALE_MS = 30_000


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """The monitor at `at_ms`: whether it has its broker, since when that is so, whether its last batch could not be
    stored, and whether it ended in order. Times in wall-clock ms; it beats every `BEAT_MS`."""

    at_ms: int
    connected: bool
    since_ms: int
    failing: bool = False
    ended: bool = False

    def next(self, now_ms: int, *, connected: bool, failing: bool, ended: bool = False) -> Heartbeat:
        """The beat at `now_ms`; the same one again while nothing changed and it is not yet time."""
        same = (connected, failing, ended) == (self.connected, self.failing, self.ended)
        if same and 0 <= now_ms - self.at_ms < BEAT_MS:
            return self
        since_ms = self.since_ms if connected == self.connected else now_ms
        return Heartbeat(at_ms=now_ms, connected=connected, since_ms=since_ms, failing=failing, ended=ended)

    def heard_until(self, now_ms: int) -> int:
        """Until when the monitor could hear devices: `now_ms` while all is well."""
        if self.ended or now_ms - self.at_ms > STALE_MS:
            return self.at_ms if self.connected else min(self.since_ms, self.at_ms)
        return now_ms if self.connected else self.since_ms


def write_heartbeat(tx: Connection, beat: Heartbeat) -> None:
    """Store the last beat."""
    upsert(tx, META, [{"key": KEY, "value": msgspec.json.encode(beat).decode()}])


def read_heartbeat(tx: Connection) -> Heartbeat | None:
    """The last beat; None when no monitor has served this store yet."""
    text = tx.scalar(select(META.c.value).where(META.c.key == KEY))
    return msgspec.json.decode(text, type=Heartbeat) if text else None


def read_heard_until(tx: Connection, now_ms: int) -> int:
    """Until when a monitor could hear devices; `now_ms` where none has left a word."""
    beat = read_heartbeat(tx)
    return beat.heard_until(now_ms) if beat else now_ms


def say_trouble(beat: Heartbeat | None, now_ms: int) -> str:
    """What keeps the store from being up to date, in one line; empty while all is well."""
    if beat is None:
        return "No monitor has served this store yet."
    if beat.ended:
        return f"The monitor was ended at {say_time(beat.at_ms)}: what stands here is of then."
    if now_ms - beat.at_ms > STALE_MS:
        return (
            f"The monitor has written nothing since {say_time(beat.at_ms)}: it does not run, or cannot write its store."
        )
    if not beat.connected:
        return f"The monitor has had no broker since {say_time(beat.since_ms)}: what stands here of devices is of then."
    return "The monitor cannot write its store: nothing new is stored." if beat.failing else ""
