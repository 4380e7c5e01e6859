"""Disagreements that people have labelled: McNemar's exact test, and the same as a bet for any time."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from device_agent.contract.errors import BadInput, NotFound
from device_agent.contract.reading import read_plain
from fleet.triggers.evidence import tail

COLUMNS = ("item", "label", "serving", "candidate")
STAKES = np.array([0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 0.95])
MOST = 64 << 20


class Outcomes(NamedTuple):
    """Labelled parts on which the models disagree: the candidate was right (`better`), the model that serves was
    (`worse`), or both were wrong in different ways."""

    better: int = 0
    worse: int = 0
    neither: int = 0

    @property
    def total(self) -> int:
        """Labelled disagreements."""
        return sum(self)


def mcnemar(outcomes: Outcomes) -> float:
    """Two-sided exact p-value of "both are right equally often" (McNemar 1947); for one look, planned before.

    >>> round(mcnemar(Outcomes(better=2, worse=12)), 4)
    0.0129
    """
    most, total = max(outcomes.better, outcomes.worse), outcomes.better + outcomes.worse
    return min(1.0, 2 * tail(most, total, 0.5)) if total else 1.0


def log_bet(outcomes: Outcomes, mean: float, *, up: bool) -> float:
    """Natural log of an e-value against "the mean outcome is `mean` or less" (`up`), or "or more": what a gambler
    has won (Waudby-Smith and Ramdas 2024), averaged over `STAKES`, so that the order of labels does not matter.
    Outcomes count as 1 (better), 0 (worse) and 1/2; at a mean of 1/2 it is McNemar's test, at any time.

    >>> round(log_bet(Outcomes(better=12, worse=2), 0.5, up=True), 2)
    2.57
    """
    better, worse, neither = outcomes if up else (outcomes.worse, outcomes.better, outcomes.neither)
    mean = mean if up else 1 - mean
    stake = STAKES / mean
    logs = better * np.log1p(stake * (1 - mean)) + worse * np.log1p(-STAKES) + neither * np.log1p(stake * (0.5 - mean))
    top = float(logs.max())
    return top + math.log(float(np.exp(logs - top).mean()))


def balance(outcomes: Outcomes, alpha: float) -> tuple[float, float]:
    """Limits of better minus worse, as a share of disagreements, -1 to 1; each is wrong with a probability of `alpha`
    at most, at whatever time one looks. Labelled parts are to be drawn by lot from the disagreements, whatever the
    models said.

    >>> low, high = balance(Outcomes(better=30, worse=10), 0.05)
    >>> round(low, 2), round(high, 2)
    (0.03, 0.82)
    """
    bar = -math.log(alpha)
    low = _cross(lambda mean: log_bet(outcomes, mean, up=True) < bar)
    high = _cross(lambda mean: log_bet(outcomes, mean, up=False) >= bar)
    return 2 * low - 1, 2 * high - 1


def _cross(passed: Callable[[float], bool]) -> float:
    """Where a condition on a mean begins to hold."""
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if passed(middle) else (middle, high)
    return low if low == 0 else high


def read_labelled(path: Path, labels: list[str], defects: set[str]) -> tuple[Outcomes, Outcomes]:
    """Outcomes of all parts of a CSV file with the columns item, label, serving and candidate (names of classes), and
    of those whose label is one of `defects`. Parts on which the models agree do not count.

    Raises:
        NotFound, BadInput: no such file; a column is missing, an item stands there twice, or a class is none.
    """
    try:
        text = read_plain(path, MOST).decode("utf-8-sig")
    except FileNotFoundError:
        raise NotFound(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: cannot be read: {error}") from None
    rows = csv.DictReader(io.StringIO(text))
    if missing := [name for name in COLUMNS if name not in (rows.fieldnames or ())]:
        raise BadInput(f"{path}: has no column {missing[0]!r}; wanted are: {', '.join(COLUMNS)}")
    seen: set[str] = set()
    counted, serious = [0, 0, 0], [0, 0, 0]
    for number, row in enumerate(rows, 2):
        item, label, serving, candidate = (row[name] for name in COLUMNS)
        if not item or item in seen:
            raise BadInput(
                f"{path}:{number}: item {(item or '')[:40]!r} {'stands there twice' if item else 'is empty'}"
            )
        if unknown := [name for name in (label, serving, candidate) if name not in labels]:
            raise BadInput(f"{path}:{number}: no class {(unknown[0] or '')[:40]!r}; known are: {', '.join(labels)}")
        seen.add(item)
        if serving != candidate:
            kind = 0 if candidate == label else 1 if serving == label else 2
            counted[kind] += 1
            serious[kind] += label in defects
    return Outcomes(*counted), Outcomes(*serious)
