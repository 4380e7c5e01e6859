"""Heartbeat: what the monitor says of itself in its store, so that a page without news does not blame the devices."""

from __future__ import annotations

import msgspec
from sqlalchemy import select
from sqlalchemy.engine import Connection

from fleet.registry import Heard
from fleet.schema import META
from fleet.store import upsert
from fleet.wording import say_time

KEY = "monitor"
BEAT_MS = 5_000
STALE_MS = 30_000


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """The monitor at `at_ms`: whether it has its broker, since when that is so, whether its last batch could not be
    stored, and whether it ended in order. It heard devices until `deaf_ms`, and again from `from_ms` on. Times in
    wall-clock ms; it beats every `BEAT_MS`."""

    at_ms: int
    connected: bool
    since_ms: int
    failing: bool = False
    ended: bool = False
    from_ms: int = 0
    deaf_ms: int = 0

    @classmethod
    def first(cls, last: Heartbeat | None, now_ms: int) -> Heartbeat:
        """The beat of a monitor that starts after `last`, without a broker yet."""
        if last is None:
            return cls(at_ms=0, connected=False, since_ms=now_ms)
        heard = last.heard(now_ms)
        return cls(at_ms=0, connected=False, since_ms=heard.until_ms, from_ms=heard.from_ms, deaf_ms=heard.deaf_ms)

    def next(self, now_ms: int, *, connected: bool, failing: bool, ended: bool = False) -> Heartbeat:
        """The beat at `now_ms`; the same one again while nothing changed and it is not yet time."""
        same = (connected, failing, ended) == (self.connected, self.failing, self.ended)
        if same and 0 <= now_ms - self.at_ms < BEAT_MS:
            return self
        beat = msgspec.structs.replace(self, at_ms=now_ms, connected=connected, failing=failing, ended=ended)
        if connected and not self.connected:
            return msgspec.structs.replace(beat, since_ms=now_ms, from_ms=now_ms, deaf_ms=self.since_ms)
        return beat if connected == self.connected else msgspec.structs.replace(beat, since_ms=now_ms)

    def stale(self, now_ms: int) -> bool:
        """Whether beats are missing; one from the future comes of a clock that was set back."""
        return abs(now_ms - self.at_ms) > STALE_MS

    def heard(self, now_ms: int) -> Heard:
        """When the monitor could hear devices: until `now_ms` while all is well."""
        until_ms = now_ms if self.connected else self.since_ms
        if self.ended or self.stale(now_ms):
            until_ms = min(until_ms, self.at_ms)
        return Heard(min(until_ms, now_ms), self.from_ms, self.deaf_ms)


def write_heartbeat(tx: Connection, beat: Heartbeat) -> None:
    """Store the last beat."""
    upsert(tx, META, [{"key": KEY, "value": msgspec.json.encode(beat).decode()}])


def read_heartbeat(tx: Connection) -> Heartbeat | None:
    """The last beat; None when no monitor has served this store yet."""
    text = tx.scalar(select(META.c.value).where(META.c.key == KEY))
    return msgspec.json.decode(text, type=Heartbeat) if text else None


def read_heard(tx: Connection, now_ms: int) -> Heard:
    """When a monitor could hear devices; always until `now_ms` where none has left a word."""
    beat = read_heartbeat(tx)
    return beat.heard(now_ms) if beat else Heard(now_ms)


def say_trouble(beat: Heartbeat | None, now_ms: int) -> str:
    """What keeps the store from being up to date, in one line; empty while all is well."""
    if beat is None:
        return "No monitor has served this store yet."
    if beat.ended:
        return f"The monitor was ended at {say_time(beat.at_ms)}: what stands here is of then."
    if beat.stale(now_ms):
        return (
            f"The monitor has written nothing since {say_time(beat.at_ms)}: it does not run, or cannot write its store."
        )
    if not beat.connected:
        return f"The monitor has had no broker since {say_time(beat.since_ms)}: what stands here of devices is of then."
    return "The monitor cannot write its store: nothing new is stored." if beat.failing else ""
