"""A device's or a site's accuracy on one card."""

from __future__ import annotations

import msgspec
import numpy as np
from sqlalchemy.engine import Connection

from device_agent.contract.errors import BadInput
from fleet.accuracy.account import Scope, choose, estimate_parts, say_unknown, with_labels
from fleet.accuracy.golden_states import GoldenState, read_states
from fleet.accuracy.labelled import Labelled
from fleet.accuracy.labels import adjudicate, read_labels
from fleet.accuracy.observed import DAY_MS, Seen, read_days
from fleet.accuracy.report import golden_gaps
from fleet.accuracy.unlabelled import Judgement
from fleet.accuracy.validation import Validation
from fleet.models import Model, read_models
from fleet.registry import Device, read_devices

LABELS_DAYS = 30


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """What fits on a card: of the model that answered most frames in the last day, `accuracy` and `recall` from counts
    (predicted), `labelled` over the last 30 days (measured), golden parts of each line, and what is not known."""

    scope: str
    model: str
    name: str
    frames: int = 0
    accuracy: Judgement | None = None
    recall: Judgement | None = None
    labelled: Labelled | None = None
    golden: list[GoldenState]
    unknown: list[str]


def card(tx: Connection, *, device: str | None = None, site: str | None = None, now_ms: int, seed: int = 0) -> Card:
    """The card of a device or of a site.

    Raises:
        NotFound: no such device or site.
    """
    models, chosen = read_models(tx), choose(read_devices(tx), Scope(device=device, site=site))
    scope, names = Scope(device=device, site=site).name(), {one.device for one in chosen}
    golden = read_states(tx, models, devices=names)
    gaps = golden_gaps(golden, {one.device for one in chosen if one.reports}, now_ms)
    seen = {model: _last_day(tx, models[model], names, now_ms) for model in _running(chosen) if model in models}
    model = max(seen, key=lambda one: sum(part.frames for part in seen[one].values()), default=None)
    known = models.get(model or "")
    if known is None or known.baseline is None or not seen[known.model]:
        why = "no report in the last day" if known is None or known.baseline else "the bundle was never imported"
        name = known.name if known else ""
        return Card(scope=scope, model=model or "", name=name, golden=golden, unknown=[why, *gaps])
    rng, parts = np.random.default_rng(seed), seen[known.model]
    try:
        validation = Validation.of(known.labels, known.baseline)
        counts = estimate_parts(validation, list(parts.values()), rng)
    except BadInput as error:
        return Card(scope=scope, model=known.model, name=known.name, golden=golden, unknown=[str(error), *gaps])
    labels = read_labels(tx, model=known.model, devices=names, since_ms=now_ms - LABELS_DAYS * DAY_MS)
    labelled, _ = with_labels(validation, parts, adjudicate(labels), rng)
    return Card(
        scope=scope,
        model=known.model,
        name=known.name,
        frames=counts.frames if counts else 0,
        accuracy=counts.judged("accuracy") if counts else None,
        recall=counts.judged("recall", "defect") if counts else None,
        labelled=labelled,
        golden=golden,
        unknown=[*say_unknown(counts, labelled, validation, 1), *gaps],
    )


def _running(devices: list[Device]) -> set[str]:
    return {device.model for device in devices if device.model}


def _last_day(tx: Connection, model: Model, names: set[str], now_ms: int) -> dict[tuple[str, int], Seen]:
    span = {"since_ms": now_ms - DAY_MS, "until_ms": now_ms + 1}
    return read_days(tx, model.model, len(model.labels), devices=names, **span)
