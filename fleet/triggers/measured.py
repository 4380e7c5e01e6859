"""Figures that labels and golden parts in the store give, for business rules."""

from __future__ import annotations

import numpy as np
from sqlalchemy.engine import Connection

from fleet.accuracy.account import Scope
from fleet.accuracy.golden_states import GoldenState
from fleet.accuracy.intervals import Interval
from fleet.accuracy.labelled import Labelled
from fleet.accuracy.report import read_accuracy
from fleet.triggers.facts import Fact, kind_of, share

DAY_MS = 86_400_000
SEED = 0


def measured_facts(tx: Connection, now_ms: int, *, window_days: float) -> dict[str, dict[str, Fact]]:
    """By model and name: what labels of the window say, weighed by how the labelled parts were drawn, and golden parts
    since their line was put right."""
    since_ms = now_ms - round(window_days * DAY_MS)
    report = read_accuracy(tx, Scope(), since_ms=since_ms, until_ms=now_ms, rng=np.random.default_rng(SEED))
    found: dict[str, dict[str, Fact]] = {}
    for model in report.models:
        if model.labelled is not None:
            found[model.model] = {fact.figure: fact for fact in _labelled(model.labelled)}
    for model_id in {state.model for state in report.golden}:
        states = [state for state in report.golden if state.model == model_id]
        found.setdefault(model_id, {})["golden_failures"] = _golden(states)
    return found


def _labelled(labelled: Labelled) -> list[Fact]:
    named = (
        ("labelled_escape_rate", labelled.escape),
        ("labelled_overkill_rate", labelled.overkill),
        ("labelled_accuracy", labelled.accuracy),
    )
    return [_fact(figure, interval, labelled.labels) for figure, interval in named]


def _fact(figure: str, interval: Interval, n: int) -> Fact:
    return Fact(figure, kind_of(figure), interval.value, n, interval.low, interval.high)


def _golden(states: list[GoldenState]) -> Fact:
    shown, right = (sum(getattr(state.outcome, name) for state in states) for name in ("runs", "right"))
    return share("golden_failures", shown - right, shown)
