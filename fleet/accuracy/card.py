"""A device's or a site's accuracy on one card."""

from __future__ import annotations

import msgspec
import numpy as np
from sqlalchemy.engine import Connection

from fleet.accuracy.golden_states import GoldenState
from fleet.accuracy.labelled import Labelled
from fleet.accuracy.observed import DAY_MS
from fleet.accuracy.report import Scope, read_accuracy
from fleet.accuracy.unlabelled import Judgement

LABELS_DAYS = 30


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """What fits on a card: of the model that answered most frames in the last day, `accuracy` and `recall` from counts
    (predicted), `labelled` over the last 30 days (measured), golden parts of each line, and what is not known."""

    scope: str
    model: str
    name: str
    frames: int
    accuracy: Judgement | None
    recall: Judgement | None
    labelled: Labelled | None
    golden: list[GoldenState]
    unknown: list[str]


def card(tx: Connection, *, device: str | None = None, site: str | None = None, now_ms: int, seed: int = 0) -> Card:
    """The card of a device or of a site.

    Raises:
        NotFound: no such device or site.
    """
    scope = Scope(device=device, site=site)
    day = read_accuracy(tx, scope, since_ms=now_ms - DAY_MS, until_ms=now_ms + 1, rng=np.random.default_rng(seed))
    seen = [one for one in day.models if one.unlabelled is not None]
    top = max(seen, key=lambda one: one.unlabelled.frames if one.unlabelled else 0, default=None)
    if top is None or top.unlabelled is None:
        unknown = [*(why for one in day.models for why in one.unknown), *day.unknown] or ["no report in the last day"]
        return Card(
            scope=scope.name(), model="", name="", frames=0, accuracy=None, recall=None, labelled=None,
            golden=day.golden, unknown=unknown,
        )  # fmt: skip
    month = read_accuracy(
        tx,
        msgspec.structs.replace(scope, model=top.model),
        since_ms=now_ms - LABELS_DAYS * DAY_MS,
        until_ms=now_ms + 1,
        rng=np.random.default_rng(seed),
    )
    labelled = next((one.labelled for one in month.models), None)
    return Card(
        scope=scope.name(),
        model=top.model,
        name=top.name,
        frames=top.unlabelled.frames,
        accuracy=top.unlabelled.judged("accuracy"),
        recall=top.unlabelled.judged("recall", "defect"),
        labelled=labelled,
        golden=day.golden,
        unknown=[*(next((one.unknown for one in month.models), []) if labelled else top.unknown), *day.unknown],
    )
