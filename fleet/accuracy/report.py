"""Silent accuracy decay: all that is known, and not known, of how right the answers of a fleet are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence

import msgspec
import numpy as np
from sqlalchemy import select
from sqlalchemy.engine import Connection

from device_agent.contract.errors import BadInput, NotFound
from fleet.accuracy.calibration import Calibration, calibration
from fleet.accuracy.decay import expectation, labelled_findings
from fleet.accuracy.finding import Finding
from fleet.accuracy.golden_states import GoldenState, read_states
from fleet.accuracy.intervals import Interval
from fleet.accuracy.label_requests import Progress, read_requests
from fleet.accuracy.labelled import Labelled, estimate_labelled, tally
from fleet.accuracy.labels import Truth, adjudicate, read_labels
from fleet.accuracy.observed import DAY_MS, Seen, read_days, total
from fleet.accuracy.slices import SHIFTS, Part, Slice, compare_slices, shift_of
from fleet.accuracy.unlabelled import Judgement, Unlabelled, estimate
from fleet.accuracy.validation import Validation
from fleet.models import Model, read_models
from fleet.registry import Device, read_devices
from fleet.schema import REPORT

MOST_DEVICES = 200
GOLDEN_MS = 3 * DAY_MS


class Day(msgspec.Struct, frozen=True):
    """A UTC day of a model on all its devices, from counts alone; `start_ms` since 1970. Predicted."""

    start_ms: int
    frames: int
    accuracy: Judgement
    recall: Judgement


class Ranked(msgspec.Struct, frozen=True):
    """A device, from counts alone. Predicted."""

    device: str
    site: str
    frames: int
    strange: float
    accuracy: Judgement
    recall: Judgement


class ModelAccuracy(msgspec.Struct, frozen=True, kw_only=True):
    """One model. `expected` are accuracy, recall and overkill in validation, at the stated prevalence; `days` and
    `ranking` (lowest limit of accuracy first, the `MOST_DEVICES` with the most frames) come of counts alone; `unknown`
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


class Scope(msgspec.Struct, frozen=True):
    """Which part of a fleet: of a device, site and model, those that are named; shifts begin at these times, the
    site's, which is UTC and `offset_min` minutes."""

    device: str | None = None
    site: str | None = None
    model: str | None = None
    shifts: Sequence[str] = SHIFTS
    offset_min: int = 0
    adjudicator: str | None = None
    false_alarms_a_year: float = 1.0

    def name(self) -> str:
        """In words."""
        parts = [f"{kind} {name}" for kind, name in (("device", self.device), ("site", self.site)) if name]
        return ", ".join(parts + ([f"model {self.model}"] if self.model else [])) or "the fleet"


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
        unknown=_golden_gaps(golden, running, until_ms),
    )


def choose(everyone: Sequence[Device], scope: Scope) -> list[Device]:
    """The devices of a scope.

    Raises:
        NotFound: none.
    """
    chosen = [d for d in everyone if scope.device in (None, d.device) and scope.site in (None, d.site)]
    if not chosen and (scope.device or scope.site):
        raise NotFound(f"no device in {scope.name()}; see `lineside-fleet devices list`")
    return chosen


def _golden_gaps(golden: Sequence[GoldenState], running: Collection[str], until_ms: int) -> list[str]:
    fresh = {state.device for state in golden if until_ms - state.last_ms <= GOLDEN_MS}
    without = len(set(running) - fresh)
    if not without:
        return []
    return [
        f"{without} of {len(running)} devices saw no golden part in the last three days: their recall is not watched"
    ]


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
    labelled, worked = _with_labels(validation, parts, truths, rng)
    unlabelled = _whole(validation, parts, rng)
    account = ModelAccuracy(
        model=model.model,
        name=model.name,
        devices=len({device for device, _ in parts}),
        expected=expected,
        unlabelled=unlabelled,
        days=_days(validation, parts, rng),
        ranking=_ranking(validation, parts, places, rng),
        labelled=labelled,
        calibration=worked,
        slices=compare_slices(_slice_parts(validation, truths, places, scope), rng),
        unknown=_unknown(unlabelled, labelled, validation, len({device for device, _ in parts})),
    )
    findings = [] if labelled is None else labelled_findings(model, expected, labelled, truths, worked)
    return account, findings


def _ran(tx: Connection, model: str, names: Collection[str] | None, since_ms: int, until_ms: int) -> bool:
    asked = select(REPORT.c.device).where(
        REPORT.c.model == model, REPORT.c.at_ms >= since_ms, REPORT.c.at_ms < until_ms
    )
    return any(names is None or row.device in names for row in tx.execute(asked.distinct()))


def _with_labels(
    validation: Validation, parts: dict[tuple[str, int], Seen], truths: list[Truth], rng: np.random.Generator
) -> tuple[Labelled | None, Calibration | None]:
    if not truths or not parts:
        return None, None
    bands = validation.bands()
    counts, disputed, bare = tally(bands, truths)
    if not counts.sum():
        return None, None
    own = len(validation.own_names or validation.names)
    cells = validation.fold(total(parts.values(), own)[0])
    found = estimate_labelled(bands, bands.pool(cells), counts, rng, disputed=disputed, bare=bare)
    return found, calibration(bands, cells, counts, rng)


def _estimate(validation: Validation, seen: Sequence[Seen], rng: np.random.Generator) -> Unlabelled | None:
    counts, independent = total(seen, len(validation.own_names or validation.names))
    frames = int(counts.sum())
    return estimate(validation, counts, min(independent, frames), rng) if frames else None


def _whole(validation: Validation, parts: dict[tuple[str, int], Seen], rng: np.random.Generator) -> Unlabelled | None:
    return _estimate(validation, list(parts.values()), rng)


def _days(validation: Validation, parts: dict[tuple[str, int], Seen], rng: np.random.Generator) -> list[Day]:
    by_day: dict[int, list[Seen]] = defaultdict(list)
    for (_, day), seen in parts.items():
        by_day[day].append(seen)
    found = []
    for day, seen in sorted(by_day.items()):
        if one := _estimate(validation, seen, rng):
            found.append(Day(day * DAY_MS, one.frames, one.judged("accuracy"), one.judged("recall", "defect")))
    return found


def _ranking(
    validation: Validation, parts: dict[tuple[str, int], Seen], places: dict[str, Device], rng: np.random.Generator
) -> list[Ranked]:
    by_device: dict[str, list[Seen]] = defaultdict(list)
    for (device, _), seen in parts.items():
        by_device[device].append(seen)
    busiest = sorted(by_device, key=lambda name: (-sum(seen.frames for seen in by_device[name]), name))
    found = []
    for name in busiest[:MOST_DEVICES]:
        if one := _estimate(validation, by_device[name], rng):
            site = places[name].site if name in places else ""
            figures = one.judged("accuracy"), one.judged("recall", "defect")
            found.append(Ranked(name, site, one.frames, one.strange.value, *figures))
    return sorted(found, key=lambda one: (one.accuracy.interval.low, one.device))


def _slice_parts(validation: Validation, truths: list[Truth], places: dict[str, Device], scope: Scope) -> list[Part]:
    bands, found = validation.bands(), []
    for truth in truths:
        true = validation.number(truth.label) if truth.label else None
        if true is None:
            continue
        cell = None if truth.cell is None else validation.fold_cell(truth.cell)
        stratum = -1 - truth.predicted if cell is None else int(bands.stratum[cell])
        called = truth.predicted if validation.side is None else int(validation.side[truth.predicted])
        place = places.get(truth.device) or Device(device=truth.device)
        slices = {
            "device type": place.hardware or "",
            "site": place.site,
            "line": place.line,
            "product": place.product,
            "shift": shift_of(truth.at_ms, scope.shifts, scope.offset_min),
        }
        found.append(Part(slices, stratum, called != true))
    return found


def _unknown(
    unlabelled: Unlabelled | None, labelled: Labelled | None, validation: Validation, devices: int
) -> list[str]:
    found = []
    if not validation.stated:
        found.append("the share of each class on the line was never stated; validation's own shares stand in for it")
    if unlabelled is None:
        found.append("no reports of this time are kept: labels cannot be weighed")
    else:
        for one in (unlabelled.judged("accuracy"), unlabelled.judged("recall", "defect")):
            if one.badge != "identified":
                found.append(f"{one.figure} from counts: {one.badge}, {one.why}")
    if labelled is None:
        found.append("no labels with a confidence: what is said here of accuracy was predicted, none of it measured")
    else:
        if labelled.looked_at < 0.999:
            found.append(f"{1 - labelled.looked_at:.1%} of the frames are in bands of which no sample has a label")
        if labelled.disputed:
            found.append(f"{labelled.disputed} parts are left out, as people disagree on them")
        if labelled.without_confidence:
            found.append(f"{labelled.without_confidence} labels are left out of the estimate, as no sample was kept")
    if devices > MOST_DEVICES:
        found.append(f"the ranking holds {MOST_DEVICES} of {devices} devices, those with the most frames")
    return found
