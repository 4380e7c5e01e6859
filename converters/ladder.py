"""What is tried for an int8 artifact, the cheapest first, until one passes its gate.

Two repairs are no steps, since every int8 artifact has them: hard activations in an identical form that is computed in
integers (`identity`), and biases corrected for what rounding adds (`shared.exact`, `head_bias`).
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from converters import CONVERTERS, Progress
from converters.activations import ESTIMATORS
from converters.console import held_back
from converters.float_layers import FloatLayers
from converters.int8_options import Int8Options
from converters.keras_export import Export
from converters.missing_operator import naming_operators
from converters.parity import ParityReport, Reference, measure, precision_of
from converters.quantization_aware import obstacle
from converters.scheme import SHARING, SchemeReport, convert
from converters.shared.graph import Unsupported
from device_agent.contract.errors import ParityFailed

FLOAT_LAYERS = (1, 4, 16)
"""How many of the most harmful layers are kept in float, one step each."""
_FREE = "nothing"
_OTHER = "integers other than those of a runtime that another step served"


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


class Rung(NamedTuple):
    """`make` writes the files; None where there is nothing to do that was not done before. `prepare` is what takes long
    before, and tells how far it is; `control` writes the files of the control."""

    name: str
    costs: str
    make: Callable[[Work], _Files | None]
    prepare: Callable[[Work], None] | None = None
    control: Callable[[Work], _Files | None] | None = None


class Work:
    """What the rungs of one artifact work on, and what they leave for those above them."""

    def __init__(self, name: str, export: Export, folder: Path, reference: Reference, asked: Int8Options) -> None:
        self.name, self.export, self.folder, self.asked = name, export, folder, asked
        self.runtime, self.precision = precision_of(name)
        self.images = reference.images
        self.shares = name == f"{self.runtime}-int8" and self.runtime in SHARING
        self.chosen: SchemeReport | None = None
        self.unsupported = False
        self.float_layers: FloatLayers | None = None
        self.progress: Progress | None = None

    def start(self) -> _Files:
        """As it was asked for."""
        if not self.shares:
            return self.own(self.export)
        files, self.chosen = convert(self.name, self.runtime, self.export, self.folder, self.images, self.asked.scheme)
        return files, self.chosen

    def shared(self, export: Export) -> _Files | None:
        """The integers that all runtimes share, where this one can have them."""
        if not self.shares:
            return self.own(export)
        if self.unsupported:
            return None
        try:
            return convert(self.name, self.runtime, export, self.folder, self.images, "shared")
        except Unsupported:
            self.unsupported = True
            return None

    def own(self, export: Export) -> _Files:
        """As the runtime's own quantizer has it."""
        if self.shares:
            return convert(self.name, self.runtime, export, self.folder, self.images, "native")
        return CONVERTERS.load(self.name)(export, self.folder), None


_Files = tuple[list[Path], SchemeReport | None]


def rungs(name: str, ranges: str, asked: Int8Options) -> list[Rung]:
    """The steps for an artifact, the cheapest first; `ranges` is the estimator of the first.

    >>> [rung.name for rung in rungs("onnx-int8", "mse", Int8Options())]
    ['mse ranges', 'minmax ranges', 'percentile ranges', 'native quantizer', 'cross-layer equalisation']
    >>> [rung.name for rung in rungs("onnx-fp32", "mse", Int8Options())]
    ['conversion']
    """
    runtime, precision = precision_of(name)
    if precision != "int8":
        return [Rung("conversion", _FREE, Work.start)]
    found = [Rung(f"{ranges} ranges", _FREE, Work.start)]
    if asked.scheme != "native" and runtime in SHARING:
        found += [Rung(f"{each} ranges", _OTHER, _ranged(each)) for each in ESTIMATORS if each != ranges]
    if asked.scheme == "auto" and name == f"{runtime}-int8":
        found.append(Rung("native quantizer", _OTHER, _native))
    found.append(Rung("cross-layer equalisation", _OTHER, _equalised))
    if name == "litert-int8" and asked.scheme != "shared":
        names = {count: "1 layer in float" if count == 1 else f"{count} layers in float" for count in FLOAT_LAYERS}
        found += [Rung(names[count], "the time of these in float", _floats(count)) for count in FLOAT_LAYERS]
    if asked.qat:
        title = f"quantization-aware training ({asked.qat} epochs)"
        found.append(Rung(title, _OTHER, _taught(asked.qat), _learn, _taught(0)))
    return found


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
        return _step("the same with nothing learnt", _FREE, time.monotonic() - start, report)
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


def _ranged(ranges: str) -> Callable[[Work], _Files | None]:
    return lambda work: work.shared(work.export.with_ranges(ranges))


def _native(work: Work) -> _Files | None:
    done = work.chosen is not None and work.chosen.chosen == "native"
    return None if done else work.own(work.export)


def _equalised(work: Work) -> _Files | None:
    """With the kernels balanced, shared where that is possible; None where the model has nothing to balance."""
    export = work.export.equalised
    if export is work.export:
        return None
    return _shared_or_own(work, export)


def _shared_or_own(work: Work, export: Export) -> _Files | None:
    made = None if work.asked.scheme == "native" else work.shared(export)
    return made if made is not None or work.asked.scheme == "shared" else work.own(export)


def _learn(work: Work) -> None:
    """The training itself, whose epochs are told."""
    tell = work.progress or (lambda _: None)
    if work.export.training is None:
        return
    if against := obstacle(work.export.model):
        tell(f"no quantization-aware training: layer {against}")
    else:
        work.export.taught(work.asked.qat, progress=tell)


def _taught(epochs: int) -> Callable[[Work], _Files | None]:
    def make(work: Work) -> _Files | None:
        if work.export.training is None or obstacle(work.export.model):
            return None
        return _shared_or_own(work, work.export.taught(epochs))

    return make


def _floats(count: int) -> Callable[[Work], _Files | None]:
    def make(work: Work) -> _Files | None:
        layers = work.float_layers = work.float_layers or FloatLayers(work.export)
        path = work.folder / "model.tflite"
        names = layers.write(count, path)
        if not names:
            return None
        reason = f"{', '.join(names)} in float"
        return [path], SchemeReport(asked=work.asked.scheme, chosen="native", reason=reason)

    return make
