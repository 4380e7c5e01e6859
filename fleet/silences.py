"""Silences, maintenance and change-over windows: when nobody is to be told, of what, for how long and why.

What happens meanwhile is recorded and shown all the same. An alert that is still open when its silence ends is told
then. A change-over window ends with a new baseline of its devices.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec
from sqlalchemy import insert, select, update
from sqlalchemy.engine import Connection

from device_agent.contract.errors import BadInput, NotFound
from fleet.matching import Facts, Matcher
from fleet.registry import Device, read_devices
from fleet.requests import ask
from fleet.schema import SILENCE

WEEK_MS = 604_800_000
LONGEST_MS = 366 * 86_400_000
SETTLE_MS = 60_000
Kind = Literal["silence", "maintenance", "changeover"]


class Silence(msgspec.Struct, frozen=True, kw_only=True):
    """Alerts that fit `matcher` are not told from `from_ms` until `until_ms` (exclusive, wall-clock ms); with `weekly`
    in every week after as well. `expired_ms`: when somebody ended it; `ended_ms`: end of the last window dealt with."""

    id: str
    kind: Kind
    matcher: Matcher
    from_ms: int
    until_ms: int
    weekly: bool = False
    reason: str
    who: str
    made_ms: int
    expired_ms: int | None = None
    ended_ms: int | None = None

    def window(self, now_ms: int) -> tuple[int, int] | None:
        """From and until of the window at `now_ms`, in ms; None outside of all of them.

        >>> night = Silence(id="a", kind="maintenance", matcher=Matcher(), from_ms=100, until_ms=200, weekly=True,
        ...     reason="", who="", made_ms=0)
        >>> night.window(150), night.window(200), night.window(WEEK_MS + 100) == (WEEK_MS + 100, WEEK_MS + 200)
        ((100, 200), None, True)
        """
        if self.expired_ms is not None and now_ms >= self.expired_ms:
            return None
        return self._planned(now_ms)

    def _planned(self, at_ms: int) -> tuple[int, int] | None:
        if at_ms < self.from_ms:
            return None
        later = (at_ms - self.from_ms) // WEEK_MS * WEEK_MS if self.weekly else 0
        window = self.from_ms + later, self.until_ms + later
        return window if at_ms < window[1] else None

    def last_end(self, now_ms: int) -> int | None:
        """When the last window before `now_ms` ended, by plan or by hand, in ms; None when none did."""
        if self.expired_ms is not None and self.expired_ms <= now_ms:
            if self._planned(self.expired_ms):
                return self.expired_ms
            now_ms = self.expired_ms
        if now_ms < self.until_ms:
            return None
        return self.until_ms + ((now_ms - self.until_ms) // WEEK_MS * WEEK_MS if self.weekly else 0)

    def over(self, now_ms: int) -> bool:
        """Whether it will never silence anything again."""
        return self.expired_ms is not None or (not self.weekly and now_ms >= self.until_ms)


def add_silence(
    tx: Connection,
    kind: Kind,
    matcher: Matcher,
    *,
    from_ms: int,
    until_ms: int,
    reason: str,
    who: str,
    now_ms: int,
    weekly: bool = False,
) -> Silence:
    """Store a silence.

    Raises:
        BadInput: it ends before it begins or now, lasts over a year, or a week where it comes every week; no reason.
    """
    if not reason.strip() or len(reason) > 1000 or not 0 < len(who) <= 64:
        raise BadInput(f"{kind}: say why in 1 to 1000 characters, and who in 1 to 64")
    if until_ms <= from_ms or (until_ms <= now_ms and not weekly):
        raise BadInput(f"{kind}: must end after it begins, and after now")
    if until_ms - from_ms > (WEEK_MS if weekly else LONGEST_MS):
        raise BadInput(f"{kind}: lasts too long: at most a year, and at most a week where it comes every week")
    made = Silence(
        id=hashlib.sha256(repr((kind, matcher, from_ms, until_ms, who, now_ms)).encode()).hexdigest()[:8],
        kind=kind,
        matcher=matcher,
        from_ms=from_ms,
        until_ms=until_ms,
        weekly=weekly,
        reason=reason,
        who=who,
        made_ms=now_ms,
    )
    fields = msgspec.structs.asdict(made) | {"matcher": msgspec.json.encode(matcher).decode()}
    tx.execute(insert(SILENCE).values(**fields))
    return made


def expire_silence(tx: Connection, silence_id: str, now_ms: int) -> Silence:
    """End a silence now.

    Raises:
        NotFound: there is none of this id that is not over.
    """
    going = {each.id: each for each in read_silences(tx) if not each.over(now_ms)}
    if silence_id not in going:
        raise NotFound(f"no silence {silence_id!r} that is not over; there are: {', '.join(going) or 'none'}")
    tx.execute(update(SILENCE).where(SILENCE.c.id == silence_id).values(expired_ms=now_ms))
    return going[silence_id]


def read_silences(tx: Connection) -> list[Silence]:
    """Every silence, by when it begins."""
    rows = tx.execute(select(SILENCE).order_by(SILENCE.c.from_ms, SILENCE.c.id)).mappings()
    return [Silence(**{**row, "matcher": msgspec.json.decode(row["matcher"], type=Matcher)}) for row in rows]


def find_silence(silences: list[Silence], facts: Facts, now_ms: int) -> tuple[Silence, int] | None:
    """The silence that an alert falls under and until when, the longest if there are several; None if none does."""
    found = [(silence, until_ms) for silence in silences if (until_ms := _until(silence, now_ms)) is not None]
    fitting = [(silence, until_ms) for silence, until_ms in found if silence.matcher.fits(facts)]
    return max(fitting, key=lambda pair: pair[1], default=None)


def _until(silence: Silence, now_ms: int) -> int | None:
    """Until when it silences now. A change-over does so a little longer, until its new baseline is taken."""
    if window := silence.window(now_ms):
        return window[1]
    end_ms = silence.last_end(now_ms) if silence.kind == "changeover" else None
    return end_ms + SETTLE_MS if end_ms is not None and now_ms < end_ms + SETTLE_MS else None


def end_changeovers(tx: Connection, now_ms: int) -> int:
    """Ask for a new baseline of the devices of every change-over window that ended; how many were asked for. A device
    is asked for once a window, however often this is called, and a window that was ended by hand counts too."""
    asked = 0
    for silence in read_silences(tx):
        end_ms = silence.last_end(now_ms)
        if silence.kind != "changeover" or end_ms is None or (silence.ended_ms or 0) >= end_ms:
            continue
        for target in _targets(tx, silence.matcher):
            ask(tx, "changeover", target, now_ms)
            asked += 1
        tx.execute(update(SILENCE).where(SILENCE.c.id == silence.id).values(ended_ms=end_ms))
    return asked


def _targets(tx: Connection, matcher: Matcher) -> list[str]:
    """Devices that stand where the change-over was."""
    return [device.device for device in read_devices(tx) if matcher.fits(_place(device))]


def _place(device: Device) -> Facts:
    kind, model = device.hardware or "", device.model or ""
    return Facts("critical", (device.site,), (device.device,), (kind,), (device.product,), (model,), (), ())
