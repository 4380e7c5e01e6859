"""What people say of parts: kept from everyone, one truth a part by rule."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.engine import Connection

from fleet.schema import LABEL
from fleet.store import upsert

CHUNK = 300


class Label(NamedTuple):
    """One person's word on one part. `item` is a sample's digest or device@ms; `label` the name of a class; `predicted`
    the model's class by number, `cell` class * 24 + bin or None; times in ms since 1970."""

    item: str
    annotator: str
    label: str
    labelled_ms: int
    device: str
    model: str
    at_ms: int
    predicted: int
    cell: int | None


class Truth(NamedTuple):
    """What a part is, by the rule; `label` is empty while people disagree. `told` counts who said so."""

    item: str
    device: str
    model: str
    at_ms: int
    predicted: int
    cell: int | None
    label: str
    told: int


class Written(NamedTuple):
    """How many labels were new, changed somebody's earlier word, or were there already (or are older)."""

    new: int
    changed: int
    known: int


def write_labels(tx: Connection, labels: Iterable[Label]) -> Written:
    """Store labels; of one person's words on one part the latest stands, so importing twice changes nothing."""
    latest: dict[tuple[str, str], Label] = {}
    for label in labels:
        key = (label.item, label.annotator)
        if key not in latest or label.labelled_ms >= latest[key].labelled_ms:
            latest[key] = label
    held = _held(tx, sorted({item for item, _ in latest}))
    rows, new, changed = [], 0, 0
    for key, label in latest.items():
        before = held.get(key)
        if before is None:
            new += 1
        elif before[0] == label.label or before[1] > label.labelled_ms:
            continue
        else:
            changed += 1
        rows.append(label._asdict())
    for start in range(0, len(rows), CHUNK):
        upsert(tx, LABEL, rows[start : start + CHUNK])
    return Written(new, changed, len(latest) - new - changed)


def _held(tx: Connection, items: list[str]) -> dict[tuple[str, str], tuple[str, int]]:
    found: dict[tuple[str, str], tuple[str, int]] = {}
    for start in range(0, len(items), CHUNK):
        asked = select(LABEL.c.item, LABEL.c.annotator, LABEL.c.label, LABEL.c.labelled_ms)
        for row in tx.execute(asked.where(LABEL.c.item.in_(items[start : start + CHUNK]))):
            found[row.item, row.annotator] = (row.label, row.labelled_ms)
    return found


def read_labels(
    tx: Connection,
    *,
    model: str | None = None,
    since_ms: int = 0,
    until_ms: int = 2**63 - 1,
    devices: Collection[str] | None = None,
) -> list[Label]:
    """Labels of parts that were seen in [since, until), of one model or all, of the devices named or all."""
    asked = select(*(LABEL.c[name] for name in Label._fields))
    asked = asked.where(LABEL.c.at_ms >= since_ms, LABEL.c.at_ms < until_ms)
    if model is not None:
        asked = asked.where(LABEL.c.model == model)
    rows = tx.execute(asked.order_by(LABEL.c.at_ms, LABEL.c.item, LABEL.c.annotator))
    return [Label(*row) for row in rows if devices is None or row.device in devices]


def adjudicate(labels: Iterable[Label], *, adjudicator: str | None = None) -> list[Truth]:
    """One truth a part: the word of the adjudicator where there is one, else that of more than half of those who spoke.

    >>> words = [Label("a", who, label, 0, "d-1", "m", 7, 0, 5) for who, label in (("ann", "scratch"), ("bob", "good"))]
    >>> adjudicate(words)[0].label, adjudicate(words, adjudicator="bob")[0].label
    ('', 'good')
    """
    by_item: dict[str, list[Label]] = defaultdict(list)
    for label in labels:
        by_item[label.item].append(label)
    return [_truth(told, adjudicator) for told in by_item.values()]


def _truth(told: list[Label], adjudicator: str | None) -> Truth:
    first = told[0]
    counts = Counter(one.label for one in told)
    word, votes = counts.most_common(1)[0]
    if 2 * votes <= len(told):
        word = ""
    word = next((one.label for one in told if one.annotator == adjudicator), word)
    return Truth(first.item, first.device, first.model, first.at_ms, first.predicted, first.cell, word, counts[word])
