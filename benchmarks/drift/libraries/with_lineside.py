"""lineside: the detector, as the monitor runs it, and the textbook tests that can be chosen in its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from feed import Case, Notes, run

from device_agent.detector import Detector, reference_from_history, streams, threshold
from fleet.diagnostics.choice import TESTS, make_test
from fleet.diagnostics.normal import normal_of_history

PAGE = threshold(1_000)
ROOT = Path(__file__).parents[3]
TESTED = ("choice", "contract", "distances", "normal", "sequential")
SOURCES = [
    *ROOT.glob("device_agent/detector/*.py"),
    *(ROOT / "fleet" / "diagnostics" / f"{name}.py" for name in TESTED),
]


def ours(level: str) -> Callable[[Case], Notes]:
    def method(case: Case) -> Notes:
        pooled = case.learn.sum(axis=(0, 1), dtype=np.int64).reshape(2, 24).astype(np.float64)
        chosen = streams(("good", "defect"), pooled)
        parts = [
            reference_from_history(case.learn[k : k + 1], case.learn_same[k : k + 1], chosen)
            for k in range(case.devices)
        ]
        reference = parts[0]
        for part in parts[1:]:
            reference = reference.joined(part)
        detector = Detector(chosen, reference, page=PAGE, compiled=True)
        rows, n, notes = np.arange(case.devices), case.watch[:, 0].sum(axis=1), Notes(case)
        for minute in range(case.minutes):
            said = detector.update(rows, case.watch[:, minute], n, case.same[:, minute], case.identical[:, minute])
            notes.note((said.page if level == "page" else said.warn) | said.frozen, minute)
        return notes

    return method


def textbook(name: str) -> Callable[[Case], Notes]:
    def method(case: Case) -> Notes:
        test = make_test(name, normal_of_history(case.learn, case.learn_same))
        rows, n, notes = np.arange(case.devices), case.watch[:, 0].sum(axis=1), Notes(case)
        for minute in range(case.minutes):
            cells = case.watch[:, minute].astype(np.int64)
            notes.note(test.update(rows, cells, n, case.same[:, minute]).alarm, minute)
        return notes

    return method


run(
    "lineside",
    {"numpy": np.__version__},
    {"detector, page": ours("page"), "detector, warn": ours("warn")}
    | {f"{name} on independent counts": textbook(name) for name in TESTS.names()},
    SOURCES,
)
