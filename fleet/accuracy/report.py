"""Silent accuracy decay: all that is known, and not known, of how right the answers of a fleet are."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec
import numpy as np
from sqlalchemy import select
from sqlalchemy.engine import Connection

from device_agent.contract.errors import BadInput, NotFound
from fleet.accuracy.account import (
    Day,
    Ranked,
    Scope,
    by_day,
    choose,
    estimate_parts,
    ranking,
    say_unknown,
    slice_parts,
    with_labels,
)
from fleet.accuracy.calibration import Calibration
from fleet.accuracy.decay import expectation, labelled_findings
from fleet.accuracy.finding import Finding
from fleet.accuracy.golden_states import GoldenState, read_states
from fleet.accuracy.intervals import Interval
from fleet.accuracy.label_requests import Progress, read_requests
from fleet.accuracy.labelled import Labelled
from fleet.accuracy.labels import adjudicate, read_labels
from fleet.accuracy.observed import DAY_MS, read_days
from fleet.accuracy.slices import Slice, compare_slices
from fleet.accuracy.unlabelled import Unlabelled
from fleet.accuracy.validation import Validation
from fleet.models import Model, read_models
from fleet.registry import Device, read_devices
from fleet.schema import REPORT

GOLDEN_MS = 3 * DAY_MS


class ModelAccuracy(msgspec.Struct, frozen=True, kw_only=True):
    """One model. `expected` are accuracy, recall and overkill in validation, at the stated prevalence; `days` and
    `ranking` (lowest limit of accuracy first, the 200 with the most frames) come of counts alone; `unknown`
    says what none of this tells."""

    model: str
    name: str
    devices: int
    expected: dict[str, Interval]
    unlabelled: Unlabelled | None = None
    days: list[Day] = []
    ranking: list[Ranked] = []
    labelled: Labelled | None = None
    calibration: Calibration | None = None
    slices: list[Slice] = []
    unknown: list[str] = []


class AccuracyReport(msgspec.Struct, frozen=True, kw_only=True):
    """Accuracy of a fleet, or of a part of it, in [since, until), wall-clock ms."""

    schema: str = "1.0"
    since_ms: int
    until_ms: int
    scope: str
    models: list[ModelAccuracy]
    golden: list[GoldenState]
    requests: list[Progress]
    findings: list[Finding]
    unknown: list[str]


def read_accuracy(
    tx: Connection, scope: Scope, *, since_ms: int, until_ms: int, rng: np.random.Generator
) -> AccuracyReport:
    """The report.

    Raises:
        NotFound: no such device, site or model.
        BadInput: shifts or rates that are none.
    """
    everyone, models = read_devices(tx), read_models(tx)
    chosen = choose(everyone, scope)
    names = None if scope.device is None and scope.site is None else {device.device for device in chosen}
    if scope.model is not None and scope.model not in models:
        raise NotFound(f"no model {scope.model!r}; known are {', '.join(sorted(models)[:12]) or 'none'}")
    golden = read_states(tx, models, devices=names, false_alarms_a_year=scope.false_alarms_a_year)
    golden = [state for state in golden if scope.model in (None, state.model)]
    found, findings = [], [state.finding for state in golden if state.finding is not None]
    for model in models.values():
        if scope.model in (None, model.model):
            one = _model(tx, model, chosen, names, scope, since_ms, until_ms, rng)
            if one is not None:
                found.append(one[0])
                findings += one[1]
    running = {device.device for device in chosen if device.reports}
    return AccuracyReport(
        since_ms=since_ms,
        until_ms=until_ms,
        scope=scope.name(),
        models=found,
        golden=golden,
        requests=[one for one in read_requests(tx) if scope.model in (None, one.model)],
        findings=findings,
        unknown=golden_gaps(golden, running, until_ms),
    )


def golden_gaps(golden: Sequence[GoldenState], running: Collection[str], until_ms: int) -> list[str]:
    """Which lines golden parts do not watch, in sentences."""
    fresh = {state.device for state in golden if until_ms - state.last_ms <= GOLDEN_MS}
    without = len(set(running) - fresh)
    if not without:
        return []
    return [f"{without} of {len(running)} devices saw no golden part in three days: their recall is not watched"]


def _model(
    tx: Connection,
    model: Model,
    chosen: list[Device],
    names: Collection[str] | None,
    scope: Scope,
    since_ms: int,
    until_ms: int,
    rng: np.random.Generator,
) -> tuple[ModelAccuracy, list[Finding]] | None:
    """The account of one model and what its labels found; None where it neither ran nor was labelled."""
    span = {"since_ms": since_ms, "until_ms": until_ms}
    truths = adjudicate(read_labels(tx, model=model.model, devices=names, **span), adjudicator=scope.adjudicator)
    if model.baseline is None:
        if not truths and not _ran(tx, model.model, names, since_ms, until_ms):
            return None
        why = "the bundle was never imported: without its validation counts nothing can be estimated"
        return ModelAccuracy(model=model.model, name=model.name, devices=0, expected={}, unknown=[why]), []
    parts = read_days(tx, model.model, len(model.labels), devices=names, **span)
    if not parts and not truths:
        return None
    try:
        validation = Validation.of(model.labels, model.baseline)
        expected = expectation(validation)
    except BadInput as error:
        return ModelAccuracy(model=model.model, name=model.name, devices=0, expected={}, unknown=[str(error)]), []
    places = {device.device: device for device in chosen}
    labelled, worked = with_labels(validation, parts, truths, rng)
    unlabelled = estimate_parts(validation, list(parts.values()), rng)
    account = ModelAccuracy(
        model=model.model,
        name=model.name,
        devices=len({device for device, _ in parts}),
        expected=expected,
        unlabelled=unlabelled,
        days=by_day(validation, parts, rng),
        ranking=ranking(validation, parts, places, rng),
        labelled=labelled,
        calibration=worked,
        slices=compare_slices(slice_parts(validation, truths, places, scope), rng),
        unknown=say_unknown(unlabelled, labelled, validation, len({device for device, _ in parts})),
    )
    findings = [] if labelled is None else labelled_findings(model, expected, labelled, truths, worked)
    return account, findings


def _ran(tx: Connection, model: str, names: Collection[str] | None, since_ms: int, until_ms: int) -> bool:
    asked = select(REPORT.c.device).where(
        REPORT.c.model == model, REPORT.c.at_ms >= since_ms, REPORT.c.at_ms < until_ms
    )
    return any(names is None or row.device in names for row in tx.execute(asked.distinct()))
