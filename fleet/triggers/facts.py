"""Figures that business rules are about: from the store, from labels, and from a file of the business's own."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta
from sqlalchemy.engine import Connection

from device_agent.contract.alert import Evidence
from device_agent.contract.codec import read_document_file
from device_agent.contract.errors import BadInput, NotFound
from fleet.acknowledgements import read_judgements
from fleet.alert_store import read_alerts
from fleet.models import read_models
from fleet.triggers.evidence import exact_interval

DAY_MS = 86_400_000
Kind = Literal["labelled", "golden", "statistic", "business"]
BUSINESS = "business."
FIGURES: dict[str, tuple[Kind, str]] = {
    "labelled_escape_rate": ("labelled", "defective parts that were called good, of the labelled defective parts"),
    "labelled_overkill_rate": ("labelled", "good parts that were called defective, of the labelled good parts"),
    "labelled_accuracy": ("labelled", "labelled parts that were answered rightly"),
    "golden_failures": ("golden", "golden parts that were answered wrongly, of those shown"),
    "true_pages": ("labelled", "pages of the rule's window that somebody judged true"),
    "age_of_model_days": ("business", "days since the model was imported"),
    "pages": ("statistic", "alerts of the rule's window that paged"),
    "warnings": ("statistic", "alerts of the rule's window, of warn or worse"),
}
"""Every figure with its kind and meaning; names that begin with "business." are the business's own."""


class Fact(NamedTuple):
    """A figure of a model: its value, out of `n`, with its exact 95 % interval where it is a share."""

    figure: str
    kind: Kind
    value: float
    n: int = 0
    low: float | None = None
    high: float | None = None

    def evidence(self, from_ms: int, to_ms: int, expected: float | None) -> Evidence:
        """The figure as evidence of a window; `expected` is the bound that it has passed."""
        return Evidence(kind=self.kind, figure=self.figure, value=self.value, low=self.low, high=self.high,
                        expected=expected, n=self.n, from_ms=from_ms, to_ms=to_ms)  # fmt: skip


Facts = Mapping[str, Fact]


def kind_of(figure: str) -> Kind:
    """Where a figure comes from.

    >>> kind_of("pages"), kind_of("business.complaints")
    ('statistic', 'business')

    Raises:
        BadInput: no such figure; those that there are, are named.
    """
    if figure.startswith(BUSINESS) and len(figure) > len(BUSINESS):
        return "business"
    if figure not in FIGURES:
        raise BadInput(f"no figure {figure!r}; known are: {', '.join(FIGURES)} and those that begin with {BUSINESS}")
    return FIGURES[figure][0]


def share(figure: str, events: int, n: int) -> Fact:
    """A figure that is `events` of `n`.

    >>> share("labelled_escape_rate", 7, 100).low
    0.028605288907439005

    Raises:
        BadInput: no such figure, or no such count.
    """
    low, high = exact_interval(events, n)
    return Fact(figure, kind_of(figure), events / n, n, low, high)


def labelled_facts(answers: Iterable[tuple[str, str, bool]]) -> list[Fact]:
    """Figures of labelled parts, one (role of its true class, role of the class it was given, class right) each; roles
    are "good" and "defect". Parts are to be different ones.

    >>> facts = labelled_facts([("defect", "good", False)] * 2 + [("defect", "defect", True)] * 8)
    >>> [(fact.figure, fact.value, fact.n) for fact in facts]
    [('labelled_escape_rate', 0.2, 10), ('labelled_accuracy', 0.8, 10)]
    """
    parts = list(answers)
    defects = [given for true, given, _ in parts if true == "defect"]
    goods = [given for true, given, _ in parts if true == "good"]
    counted = (
        ("labelled_escape_rate", defects.count("good"), len(defects)),
        ("labelled_overkill_rate", goods.count("defect"), len(goods)),
        ("labelled_accuracy", sum(right for _, _, right in parts), len(parts)),
    )
    return [share(figure, events, n) for figure, events, n in counted if n]


def store_facts(tx: Connection, now_ms: int, *, window_days: float) -> dict[str, dict[str, Fact]]:
    """By model and name, the figures that the store itself has: the model's age, and alerts opened in the window."""
    found: dict[str, dict[str, Fact]] = {}
    for model in read_models(tx).values():
        facts = found.setdefault(model.model, {name: Fact(name, kind_of(name), 0.0) for name in
                                               ("pages", "warnings", "true_pages")})  # fmt: skip
        if model.imported_ms is not None:
            age = max(0.0, (now_ms - model.imported_ms) / DAY_MS)
            facts["age_of_model_days"] = Fact("age_of_model_days", "business", age)
    since_ms, judged = now_ms - round(window_days * DAY_MS), read_judgements(tx)
    for alert in read_alerts(tx, closed=True, since_ms=since_ms):
        if not since_ms <= alert.opened_ms <= now_ms or alert.model not in found:
            continue
        paged = alert.paged_ms is not None
        counted = {"warnings": alert.severity != "info", "pages": paged,
                   "true_pages": paged and alert.id in judged and judged[alert.id].real}  # fmt: skip
        for name in (name for name, counts in counted.items() if counts):
            old = found[alert.model][name]
            found[alert.model][name] = old._replace(value=old.value + 1)
    return found


class _Figure(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    figure: str
    value: float | None = None
    events: Annotated[int, Meta(ge=0)] | None = None
    n: Annotated[int, Meta(ge=0)] = 0


class _File(msgspec.Struct, kw_only=True):
    schema: str
    models: dict[str, list[_Figure]]


def read_facts_file(path: Path) -> dict[str, dict[str, Fact]]:
    """Figures of a JSON file, by model and name: `{"schema": "1.0", "models": {MODEL: [{"figure": ..., "events": 7,
    "n": 240}, {"figure": "business.complaints", "value": 3}]}}`.

    Raises:
        NotFound, UnknownSchema, BadInput: no such file, of another schema, or a figure that is none.
    """
    file = read_document_file(path, _File)
    if file is None:
        raise NotFound(f"{path}: no such file")
    found: dict[str, dict[str, Fact]] = {}
    for model, figures in file.models.items():
        for one in figures:
            try:
                found.setdefault(model, {})[one.figure] = _fact(one)
            except BadInput as error:
                raise BadInput(f"{path}: {model}: {error}") from None
    return found


def _fact(one: _Figure) -> Fact:
    kind = kind_of(one.figure)
    if one.events is not None and one.value is None:
        return share(one.figure, one.events, one.n)
    if one.value is None or one.events is not None or not math.isfinite(one.value):
        raise BadInput(f"{one.figure}: give a finite value, or events and n")
    if kind in ("labelled", "golden") and one.figure != "true_pages":
        raise BadInput(f"{one.figure}: is a share; give events and n, so that it has an interval")
    return Fact(one.figure, kind, one.value, one.n)
