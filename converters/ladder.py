"""Climbing: what is tried for an artifact, step after step, until one passes its gate."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import NamedTuple

import msgspec

from converters import Progress
from converters.console import held_back
from converters.int8_options import Int8Options
from converters.keras_export import Export
from converters.missing_operator import naming_operators
from converters.parity import ParityReport, Reference, measure
from converters.rungs import FREE, Rung, Work, rungs
from converters.scheme import SchemeReport
from device_agent.contract.errors import ParityFailed


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A step that was tried, what it costs on the device, and the seconds that its conversion took. Macro-F1 and recall
    of the rarest defect that are lost against Keras, and the agreement with it, are measured and 0 to 1; `failures`
    says what the gate objects to. `control` is what the step brings without what it is about; it is never kept."""

    name: str
    costs: str
    seconds: float
    f1_drop: float
    recall_drop: float
    agreement: float
    failures: list[str] = []
    control: Step | None = None


class Made(NamedTuple):
    """The files of the step that passed, how int8 was chosen where there was a choice, and all steps until then."""

    files: list[Path]
    scheme: SchemeReport | None
    parity: ParityReport
    steps: list[Step]


def climb(
    name: str,
    export: Export,
    reference: Reference,
    folder: Path,
    asked: Int8Options,
    *,
    progress: Progress | None = None,
) -> Made:
    """The files of the first step that passes the gate, in `folder`. What comes after it is not computed.

    Args:
        name: of the artifact.
        export: the model, with the estimator of ranges to start with.
        reference: what the gate holds the files against.
        folder: is there, and empty.
        asked: what the steps have to keep to.
        progress: is told each step after the first before it starts.

    Raises:
        ParityFailed: no step passes.
        Unsupported: the shared scheme is asked for, and the network has an operator that cannot be shared.
    """
    work = Work(name, export, folder, reference, asked)
    if progress is not None:
        work.progress = lambda text: progress(f"{name}, {text}")
    steps: list[Step] = []
    first: ParityReport | None = None
    for rung in rungs(name, export.ranges, asked):
        if progress is not None and steps:
            progress(f"{name}, {rung.name}")
        start = time.monotonic()
        if rung.prepare is not None:
            rung.prepare(work)
        with held_back(), naming_operators(name):
            made = rung.make(work)
        if made is None:
            continue
        seconds, (files, scheme) = time.monotonic() - start, made
        report = measure(work.runtime, work.precision, files[0], export.spec, reference, max_drop=_limit(work))
        first = first or report
        if steps and scheme is not None:
            scheme = msgspec.structs.replace(scheme, asked=asked.scheme, reason=f"after {others(len(steps))} failed")
        step = _step(_title(rung, scheme, first=not steps), rung.costs, seconds, report)
        if rung.control is not None and report.passed:
            step = msgspec.structs.replace(step, control=_controlled(work, rung, reference))
        steps.append(step)
        if report.passed:
            return Made(files, scheme, report, steps)
    assert first is not None, "the first rung makes files or raises"
    rest = f"; neither by {', '.join(step.name for step in steps[1:])}" if len(steps) > 1 else ""
    raise ParityFailed(f"{name}: {'; '.join(first.failures)} ({first.images} images){rest}")


def others(count: int) -> str:
    """How many other steps, in words."""
    return "1 other" if count == 1 else f"{count} others"


def _controlled(work: Work, rung: Rung, reference: Reference) -> Step:
    """The control of a rung, its files in a folder that does not stay."""
    assert rung.control is not None
    start, folder = time.monotonic(), work.folder
    work.folder = folder / "control"
    work.folder.mkdir()
    try:
        with held_back():
            made = rung.control(work)
        assert made is not None, "what the rung can do the control can"
        report = measure(work.runtime, work.precision, made[0][0], work.export.spec, reference, max_drop=_limit(work))
        return _step("the same with nothing learnt", FREE, time.monotonic() - start, report)
    finally:
        shutil.rmtree(work.folder)
        work.folder = folder


def _limit(work: Work) -> float | None:
    return work.asked.max_drop if work.precision == "int8" else None


def _title(rung: Rung, scheme: SchemeReport | None, *, first: bool) -> str:
    return "native quantizer" if first and scheme is not None and scheme.chosen == "native" else rung.name


def _step(name: str, costs: str, seconds: float, report: ParityReport) -> Step:
    rarest = report.rarest
    return Step(
        name=name,
        costs=costs,
        seconds=round(seconds, 2),
        f1_drop=report.f1_drop,
        recall_drop=0.0 if rarest is None else rarest.keras - rarest.artifact,
        agreement=report.agreement,
        failures=report.failures,
    )
