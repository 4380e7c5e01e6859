"""Textbook tests beside the detector at work: their alarms are events of the device, as information; nobody is paged.

What a test has seen lives in memory only: after a restart it starts from nothing, as it decides nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping

import numpy as np
from sqlalchemy.engine import Connection

from device_agent.contract.errors import BadInput
from device_agent.detector.normal import Learning
from fleet.detector_fleet import dense
from fleet.diagnostics.choice import OURS, TESTS, false_alarms, make_test
from fleet.diagnostics.contract import DriftTest
from fleet.diagnostics.normal import Normal, Rows, normal_of_model
from fleet.ledger import Entry
from fleet.models import Model
from fleet.schema import EVENT
from fleet.store import upsert

Alarm = dict[str, object]
"""An event, as the store has it."""
KIND = "test:"
HOLD_MS = 6 * 3_600_000
"""An alarm of a test that comes back within this time is the same one, and not told again."""


def check_tests(names: Collection[str]) -> tuple[str, ...]:
    """The names once each, without the detector, which is always there.

    >>> check_tests(["ours", "kl", "kl"])
    ('kl',)

    Raises:
        BadInput: there is no such test.
    """
    wanted = tuple(dict.fromkeys(name for name in names if name != OURS))
    for name in wanted:
        TESTS.load(name)
    return wanted


class Watching:
    """The chosen tests on every device, each against its model's baseline.

    Args:
        names: of the tests; none is no work.

    Raises:
        BadInput: there is no such test.
    """

    def __init__(self, names: Collection[str] = ()) -> None:
        self._names = check_tests(names)
        self._models: dict[str, _OfModel] = {}
        self._last: dict[str, str] = {}

    def feed(self, entries: list[Entry], models: Mapping[str, Model], learning: Mapping[str, Learning]) -> list[Alarm]:
        """Show new reports to the tests, each device's in order; the alarms that begin with them.

        Args:
            entries: new reports.
            models: by id.
            learning: of the models whose prevalence is learnt from the line.
        """
        alarms: list[Alarm] = []
        for turn in _turns(entries) if self._names else ():
            by_model: dict[str, list[Entry]] = {}
            for entry in turn:
                by_model.setdefault(entry.report.model.hex(), []).append(entry)
            for model_id, part in by_model.items():
                watched = self._watched(models.get(model_id), learning.get(model_id))
                fitting = [entry for entry in part if watched and entry.report.histogram.classes == watched.classes]
                if watched and fitting:
                    alarms += watched.feed(fitting, [self._came(entry) for entry in fitting])
        return alarms

    def _came(self, entry: Entry) -> bool:
        """Whether the device spoke for another model before."""
        model = entry.report.model.hex()
        before, self._last[entry.device] = self._last.get(entry.device, model), model
        return before != model

    def _watched(self, model: Model | None, learning: Learning | None) -> _OfModel | None:
        """Tests of a model: made anew with its baseline, None while nothing is known of what is normal."""
        baseline = model.baseline if model else None
        if model is None or baseline is None or (baseline.prevalence is None and not (learning and learning.done)):
            return None
        known = self._models.get(model.model)
        if known is None or known.model is not model:
            try:
                normal = normal_of_model(baseline, learning)
            except BadInput:
                return None
            self._models[model.model] = known = _OfModel(model, normal, self._names)
        return known


class _OfModel:
    """The tests of all devices of one model."""

    def __init__(self, model: Model, normal: Normal, names: tuple[str, ...]) -> None:
        self.model, self.classes = model, len(model.labels)
        self._normal, none = normal, normal.take(np.zeros(0, np.intp))
        self._tests: dict[str, DriftTest] = {name: make_test(name, none) for name in names}
        self._rows: dict[str, int] = {}
        self._up_ms: dict[tuple[str, str], int] = {}

    def feed(self, entries: list[Entry], came: list[bool]) -> Iterator[Alarm]:
        """One report of each device; `came`: those that start from nothing."""
        rows = self._place(entries)
        cells = dense([entry.cells for entry in entries], self._normal.shares.shape[1])
        frames, same = cells.sum(axis=1), np.array([entry.same for entry in entries], np.int64)
        for name, test in self._tests.items():
            test.reset(rows[np.array(came)])
            found = test.update(rows, cells, frames, same)
            for at in np.flatnonzero(found.alarm).tolist():
                entry = entries[at]
                before = self._up_ms.get((name, entry.device))
                self._up_ms[name, entry.device] = entry.at_ms
                if before is None or came[at] or entry.at_ms - before >= HOLD_MS:
                    yield _alarm(name, entry, float(found.statistic[at]), float(found.threshold[at]))

    def _place(self, entries: list[Entry]) -> Rows:
        fresh = [entry.device for entry in entries if entry.device not in self._rows]
        self._rows |= {device: row for row, device in enumerate(fresh, start=len(self._rows))}
        for test in self._tests.values() if fresh else ():
            test.grow(self._normal.take(np.zeros(len(fresh), np.intp)))
        return np.array([self._rows[entry.device] for entry in entries], np.intp)


def _alarm(name: str, entry: Entry, statistic: float, threshold: float) -> Alarm:
    report = entry.report
    return Alarm(
        device=entry.device,
        boot=report.boot,
        monotonic_ms=report.monotonic_ms,
        kind=f"{KIND}{name}"[:32],
        at_ms=entry.at_ms,
        text=f"{name} {statistic:.3g}, over {threshold:.3g}; information only, wrong on healthy lines "
        f"{false_alarms(name)}",
    )


def write_alarms(tx: Connection, alarms: list[Alarm]) -> None:
    """As events of their devices."""
    upsert(tx, EVENT, alarms, keep=("at_ms",))


def _turns(entries: list[Entry]) -> list[list[Entry]]:
    """The first report of every device, then the second of every device that has one, and so on."""
    turns: list[list[Entry]] = []
    had: Counter[str] = Counter()
    for entry in entries:
        if had[entry.device] == len(turns):
            turns.append([])
        turns[had[entry.device]].append(entry)
        had[entry.device] += 1
    return turns
