"""Where a model is worse than elsewhere: slices of the labelled parts, with the number of questions asked in mind."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from fleet.accuracy.intervals import Interval, exact

DRAWS = 9999
LEAST = 20
FAMILY = 0.05
SHIFTS = ("06:00", "14:00", "22:00")


class Part(msgspec.Struct, frozen=True):
    """A labelled part: its slices, such as {"site": "hall-2"}, the stratum in which it was drawn, right or wrong."""

    slices: Mapping[str, str]
    stratum: int
    wrong: bool


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """One slice against all others. `wrong` is the share of its labelled parts, unweighted, with exact limits;
    `expected` the share that the others' rates in the same strata give it. `p` is the exact test within strata, None
    where there are too few; "worse" and "better" hold together for all slices with 95 % (Holm 1979). Measured."""

    by: str
    name: str
    labels: int
    wrong: Interval
    expected: float | None
    p: float | None
    verdict: Literal["worse", "better", "no difference shown", "too few"]


class _Draft(NamedTuple):
    """A slice before its verdict; `tested` is p and the share expected."""

    by: str
    name: str
    labels: int
    wrong: Interval
    tested: tuple[float, float] | None


def shift_of(at_ms: int, starts: Sequence[str] = SHIFTS, offset_min: int = 0) -> str:
    """The shift in which a time lies: its start. `offset_min` is the site's time less UTC in minutes.

    >>> shift_of(1_767_268_800_000), shift_of(1_767_236_400_000), shift_of(1_767_236_400_000, offset_min=60)
    ('06:00', '22:00', '22:00')

    Raises:
        BadInput: a start that is no HH:MM, or none.
    """
    try:
        minutes = sorted((int(text[:2]) * 60 + int(text[3:]), text) for text in starts if text[2] == ":")
    except (ValueError, IndexError):
        minutes = []
    if len(minutes) != len(starts) or not minutes or not all(0 <= minute < 1440 for minute, _ in minutes):
        raise BadInput(f"shifts {','.join(starts)!r}: must read like 06:00,14:00,22:00")
    at = datetime.fromtimestamp(at_ms / 1000 + 60 * offset_min, timezone.utc)
    now = at.hour * 60 + at.minute
    return next((text for minute, text in reversed(minutes) if minute <= now), minutes[-1][1])


def compare_slices(parts: Sequence[Part], rng: np.random.Generator) -> list[Slice]:
    """Every slice with its test, by kind and name.

    A slice of fewer than `LEAST` labels is "too few" and asks no question. The test redraws which parts of a stratum
    belong to the slice, so a slice whose parts are only harder to tell is not called worse.
    """
    members: dict[tuple[str, str], list[int]] = defaultdict(list)
    for number, part in enumerate(parts):
        for by, name in part.slices.items():
            members[by, name or "(none)"].append(number)
    kinds: dict[str, int] = defaultdict(int)
    for by, _ in members:
        kinds[by] += 1
    stratum = np.unique([part.stratum for part in parts], return_inverse=True)[1] if parts else np.zeros(0, np.intp)
    wrong = np.array([part.wrong for part in parts], bool)
    drafts = []
    for (by, name), inside in sorted(members.items()):
        asks = len(inside) >= LEAST and len(parts) - len(inside) >= LEAST and kinds[by] > 1
        tested = _test(stratum, wrong, np.array(inside), rng) if asks else None
        drafts.append(_Draft(by, name, len(inside), exact(int(wrong[inside].sum()), len(inside)), tested))
    return _judge(drafts)


def _test(
    stratum: NDArray[np.intp], wrong: NDArray[np.bool_], inside: NDArray[np.intp], rng: np.random.Generator
) -> tuple[float, float]:
    """Two-sided p, and the share of wrong ones that the slice would have with the other parts' rates."""
    size = int(stratum.max()) + 1
    all_n, all_wrong = np.bincount(stratum, minlength=size), np.bincount(stratum, wrong, size).astype(np.int64)
    own_n = np.bincount(stratum[inside], minlength=size)
    own_wrong = np.bincount(stratum[inside], wrong[inside], size)
    drawn = rng.hypergeometric(all_wrong, all_n - all_wrong, own_n, (DRAWS, size)).sum(axis=1)
    usual = float((own_n * all_wrong / np.maximum(all_n, 1)).sum())
    far = np.abs(drawn - usual) >= abs(own_wrong.sum() - usual) - 1e-9
    others = np.maximum(all_n - own_n, 1)
    rates = np.where(all_n > own_n, (all_wrong - own_wrong) / others, all_wrong / np.maximum(all_n, 1))
    return float((1 + far.sum()) / (1 + DRAWS)), float((own_n * rates).sum() / max(own_n.sum(), 1))


def _judge(drafts: list[_Draft]) -> list[Slice]:
    asked = sorted((draft.tested[0], number) for number, draft in enumerate(drafts) if draft.tested)
    shown: set[int] = set()
    for rank, (p, number) in enumerate(asked):
        if p > FAMILY / (len(asked) - rank):
            break
        shown.add(number)
    return [_slice(draft, number in shown) for number, draft in enumerate(drafts)]


def _slice(draft: _Draft, shown: bool) -> Slice:
    verdict: Literal["worse", "better", "no difference shown", "too few"] = "no difference shown"
    p, expected = draft.tested or (None, None)
    if expected is None:
        verdict = "too few"
    elif shown:
        verdict = "worse" if draft.wrong.value > expected else "better"
    return Slice(
        by=draft.by, name=draft.name, labels=draft.labels, wrong=draft.wrong, expected=expected, p=p, verdict=verdict
    )
