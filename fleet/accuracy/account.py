"""One model's account: its counts, labels and slices, each put where it can be read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import msgspec
import numpy as np

from device_agent.contract.errors import NotFound
from fleet.accuracy.calibration import Calibration, calibration
from fleet.accuracy.labelled import Labelled, estimate_labelled, tally
from fleet.accuracy.labels import Truth
from fleet.accuracy.observed import DAY_MS, Seen, total
from fleet.accuracy.slices import SHIFTS, Part, shift_of
from fleet.accuracy.unlabelled import Judgement, Unlabelled, estimate
from fleet.accuracy.validation import Validation
from fleet.registry import Device

MOST_DEVICES = 200


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


def choose(everyone: Sequence[Device], scope: Scope) -> list[Device]:
    """The devices of a scope.

    Raises:
        NotFound: none.
    """
    chosen = [d for d in everyone if scope.device in (None, d.device) and scope.site in (None, d.site)]
    if not chosen and (scope.device or scope.site):
        raise NotFound(f"no device in {scope.name()}; see `lineside-fleet devices list`")
    return chosen


def with_labels(
    validation: Validation, parts: dict[tuple[str, int], Seen], truths: list[Truth], rng: np.random.Generator
) -> tuple[Labelled | None, Calibration | None]:
    """Figures and calibration of labels, weighed by what lines showed, by device and day; None without the one or the
    other."""
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


def estimate_parts(validation: Validation, seen: Sequence[Seen], rng: np.random.Generator) -> Unlabelled | None:
    """What counts of several devices and days say together; None without a frame."""
    counts, independent = total(seen, len(validation.own_names or validation.names))
    frames = int(counts.sum())
    return estimate(validation, counts, min(independent, frames), rng) if frames else None


def by_day(validation: Validation, parts: dict[tuple[str, int], Seen], rng: np.random.Generator) -> list[Day]:
    """Each UTC day of all devices."""
    daily: dict[int, list[Seen]] = defaultdict(list)
    for (_, number), seen in parts.items():
        daily[number].append(seen)
    found = []
    for number, several in sorted(daily.items()):
        if one := estimate_parts(validation, several, rng):
            found.append(Day(number * DAY_MS, one.frames, one.judged("accuracy"), one.judged("recall", "defect")))
    return found


def ranking(
    validation: Validation, parts: dict[tuple[str, int], Seen], places: dict[str, Device], rng: np.random.Generator
) -> list[Ranked]:
    """The `MOST_DEVICES` with the most frames, the lowest limit of accuracy first."""
    by_device: dict[str, list[Seen]] = defaultdict(list)
    for (device, _), seen in parts.items():
        by_device[device].append(seen)
    busiest = sorted(by_device, key=lambda name: (-sum(seen.frames for seen in by_device[name]), name))
    found = []
    for name in busiest[:MOST_DEVICES]:
        if one := estimate_parts(validation, by_device[name], rng):
            site = places[name].site if name in places else ""
            figures = one.judged("accuracy"), one.judged("recall", "defect")
            found.append(Ranked(name, site, one.frames, one.strange.value, *figures))
    return sorted(found, key=lambda one: (one.accuracy.interval.low, one.device))


def slice_parts(validation: Validation, truths: list[Truth], places: dict[str, Device], scope: Scope) -> list[Part]:
    """Labelled parts with their slices, for `compare_slices`; those that people dispute are left out."""
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


def say_unknown(
    unlabelled: Unlabelled | None, labelled: Labelled | None, validation: Validation, devices: int
) -> list[str]:
    """What neither counts nor labels tell, in sentences."""
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
