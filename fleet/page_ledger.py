"""The ledger of pages against the dial: what was promised, what was raised, what people found to be false."""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec
from sqlalchemy import func, insert, select
from sqlalchemy.engine import Connection

from device_agent.contract.alert import Alert
from fleet.acknowledgements import Judgement, read_judgements
from fleet.alert_store import read_alerts
from fleet.drafts import family
from fleet.schema import DEVICE, DIAL

WEEK_MS = 604_800_000
LEAST_WEEKS, HOUR_WEEKS = 1 / 7, 1 / 168
PROMISED = ("drift", "frozen")


class Week(msgspec.Struct, frozen=True):
    """Pages of one week from `from_ms` on, and how they were judged."""

    from_ms: int
    pages: int
    false: int
    real: int


class PageLedger(msgspec.Struct, frozen=True, kw_only=True):
    """Pages and worse of the detector that people were told of, over `weeks` weeks. `low` and `high`: exact 95 %
    interval of Poisson for the false ones a week, all measured; `high_if_unjudged_false` takes those that nobody
    judged for false as well. `holds`: whether the promise of `promised` false pages a week holds; None: cannot be said
    yet."""

    from_ms: int
    to_ms: int
    weeks: float
    promised: float
    pages: int
    false: int
    real: int
    unjudged: int
    a_week: float
    low: float
    high: float
    high_if_unjudged_false: float
    holds: bool | None
    by_week: list[Week]

    @property
    def verdict(self) -> str:
        """The same in one sentence."""
        if self.weeks < LEAST_WEEKS:
            return "less than a day was watched: nothing can be said of pages a week yet"
        said = f"{self.a_week:.2f} false pages a week (95 % {self.low:.2f} to {self.high:.2f}, measured over "
        said += f"{self.weeks:.1f} weeks), promised {self.promised:g}: "
        if self.holds is False:
            return said + "the promise does not hold"
        if self.holds:
            return said + "the promise holds"
        open_end = f", {self.unjudged} pages are not judged" if self.unjudged else ""
        return said + f"cannot be said yet{open_end}"


def keep_page_ledger(
    tx: Connection, now_ms: int, *, promised: float | None = None, since_ms: int | None = None
) -> PageLedger:
    """The ledger from `since_ms` (default: when the first device was seen) until now, by the last dial that was kept if
    none is given (1 where there is none)."""
    first_ms = tx.scalar(select(func.min(DEVICE.c.first_seen_ms)))
    from_ms = since_ms if since_ms is not None else min(first_ms if first_ms is not None else now_ms, now_ms)
    found = read_alerts(tx, closed=True, since_ms=from_ms)
    opened = {alert.id: alert.opened_ms for alert in found}
    pages = [alert for alert in found if _counts(alert, opened) and from_ms <= (alert.paged_ms or 0) <= now_ms]
    kept = read_judgements(tx)
    dial = promised if promised is not None else read_dial(tx)
    return tally(pages, kept, from_ms=from_ms, to_ms=now_ms, promised=1.0 if dial is None else dial)


def tally(pages: list[Alert], judged: dict[str, Judgement], *, from_ms: int, to_ms: int, promised: float) -> PageLedger:
    """The ledger of some pages. Times in wall-clock ms, `promised` in false pages a week."""
    weeks = max((to_ms - from_ms) / WEEK_MS, HOUR_WEEKS)
    false = sum(alert.id in judged and not judged[alert.id].real for alert in pages)
    real = sum(alert.id in judged and judged[alert.id].real for alert in pages)
    unjudged = len(pages) - false - real
    low, high = poisson_interval(false)
    worst = poisson_interval(false + unjudged)[1] / weeks
    holds = False if low / weeks > promised else True if worst <= promised else None
    return PageLedger(
        from_ms=from_ms,
        to_ms=to_ms,
        weeks=weeks,
        promised=promised,
        pages=len(pages),
        false=false,
        real=real,
        unjudged=unjudged,
        a_week=false / weeks,
        low=low / weeks,
        high=high / weeks,
        high_if_unjudged_false=worst,
        holds=holds,
        by_week=_weeks(pages, judged, from_ms, to_ms),
    )


def poisson_interval(count: int, level: float = 0.95) -> tuple[float, float]:
    """Exact interval of the mean of a Poisson count (Garwood 1936).

    >>> [round(limit, 3) for limit in poisson_interval(0) + poisson_interval(3)]
    [0.0, 3.689, 0.619, 8.767]
    """
    tail, top = (1 - level) / 2, 2.0 * count + 20
    low = 0.0 if count == 0 else _root(lambda mean: 1 - _cumulative(count - 1, mean) - tail, 0.0, top)
    return low, _root(lambda mean: tail - _cumulative(count, mean), 0.0, top)


def write_dial(tx: Connection, pages_a_week: float, now_ms: int) -> None:
    """Keep what is promised from now on; nothing is written while it stays the same."""
    if read_dial(tx) != pages_a_week:
        tx.execute(insert(DIAL).values(from_ms=now_ms, pages_a_week=pages_a_week))


def read_dial(tx: Connection) -> float | None:
    """The false pages a week that were promised last; None when none were."""
    return tx.scalar(select(DIAL.c.pages_a_week).order_by(DIAL.c.from_ms.desc()).limit(1))


def _counts(alert: Alert, opened: dict[str, int]) -> bool:
    """Whether the dial promises for it: a page of the detector that was not covered from the start, by an alert that
    was opened before it."""
    if alert.paged_ms is None or family(alert.stream) not in PROMISED:
        return False
    return not alert.inhibited_by or opened.get(alert.inhibited_by, 0) > alert.paged_ms


def _weeks(pages: list[Alert], judged: dict[str, Judgement], from_ms: int, to_ms: int) -> list[Week]:
    found = []
    for start_ms in range(from_ms, max(to_ms, from_ms + 1), WEEK_MS):
        inside = [alert for alert in pages if start_ms <= (alert.paged_ms or 0) < start_ms + WEEK_MS]
        real = [judged[alert.id].real for alert in inside if alert.id in judged]
        found.append(Week(start_ms, len(inside), len(real) - sum(real), sum(real)))
    return found


def _cumulative(count: int, mean: float) -> float:
    """Probability of at most `count` events."""
    if mean <= 0:
        return 1.0
    logs = [k * math.log(mean) - mean - math.lgamma(k + 1) for k in range(count + 1)]
    return min(1.0, math.fsum(map(math.exp, logs)))


def _root(rising: Callable[[float], float], low: float, high: float) -> float:
    """Where a rising function crosses zero."""
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return high
