"""A run's model becomes artifacts, and artifacts are held against the model again."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np

from converters import CONVERTERS
from converters.artifact import (
    ArtifactRecord,
    build,
    check_files,
    file_sha256,
    is_current,
    read_artifact,
    remove,
)
from converters.calibration import draw
from converters.keras_export import Export
from converters.parity import ParityReport, Reference, measure
from device_agent.contract.errors import BadInput, LinesideError, NotFound, ParityFailed
from toolkit.images import load
from toolkit.runs import Run

REFERENCE_IMAGES = 1000
Progress = Callable[[str], None]


class Conversion(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one artifact: "converted", "current" (it was there and up to date) or "failed", with the reason."""

    name: str
    outcome: str
    artifact: ArtifactRecord | None = None
    reason: str | None = None


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """Whether an artifact still is what was converted and still computes what was trained; `reason` if not."""

    name: str
    passed: bool
    parity: ParityReport | None = None
    reason: str | None = None


def convert_run(
    run: Run, names: Sequence[str], *, force: bool = False, progress: Progress | None = None
) -> list[Conversion]:
    """Convert what is not there or out of date; one that fails its gate does not keep the others from being made.

    Calibration images are drawn from the training split, the gate's from the validation split.

    Args:
        run: a trained run.
        names: artifacts such as "litert-int8".
        force: convert also what is up to date.
        progress: is told the name of each artifact before its conversion starts.

    Raises:
        BadInput: an unknown name.
        ParityFailed: Keras' own outputs do not spread, so that no gate could prove anything.
        NotWritable: the disk is full, read-only or forbids it.
    """
    unknown = [name for name in names if name not in CONVERTERS.names()]
    if unknown:
        raise BadInput(f"no artifact {unknown[0]!r}; known are {', '.join(CONVERTERS.names())}")
    source = file_sha256(run.model_path)
    stale = [name for name in names if force or not is_current(run.artifact_dir(name), source)]
    made = {}
    if stale:
        with _export(run) as (export, reference):
            for name in stale:
                if progress is not None:
                    progress(name)
                made[name] = _convert(run, name, export, reference, source)
    return [
        made.get(name) or Conversion(name=name, outcome="current", artifact=read_artifact(run.artifact_dir(name)))
        for name in names
    ]


def verify_run(run: Run, *, progress: Progress | None = None) -> list[Verification]:
    """Hold every artifact of the run against its record and against Keras, on the validation images.

    Raises:
        NotFound: the run has no artifacts.
        ParityFailed: Keras' own outputs do not spread.
    """
    names = run.artifacts()
    if not names:
        raise NotFound(f"{run.dir}: no artifacts to verify; convert with: lineside convert {run.dir} --all")
    source, found = file_sha256(run.model_path), []
    with _export(run) as (_, reference):
        for name in names:
            if progress is not None:
                progress(name)
            found.append(_verify(run, name, reference, source))
    return found


def _convert(run: Run, name: str, export: Export, reference: Reference, source: str) -> Conversion:
    folder = run.artifact_dir(name)
    if not is_current(folder, source):
        remove(folder)
    try:
        record = build(name, export, reference, folder, source_sha256=source)
    except ParityFailed as error:
        return Conversion(name=name, outcome="failed", reason=str(error))
    return Conversion(name=name, outcome="converted", artifact=record)


def _verify(run: Run, name: str, reference: Reference, source: str) -> Verification:
    folder = run.artifact_dir(name)
    try:
        record = read_artifact(folder)
        if record is None:
            raise NotFound(f"{folder}: artifact.json is gone")
        if record.source_sha256 != source:
            raise ParityFailed(f"{folder}: was converted from another model; convert again")
        check_files(folder, record)
        path = folder / record.files[0]
        report = measure(record.runtime, record.precision, path, run.record.input, reference)
    except LinesideError as error:
        return Verification(name=name, passed=False, reason=str(error))
    reason = f"{folder}: {'; '.join(report.failures)}" if report.failures else None
    return Verification(name=name, passed=report.passed, parity=report, reason=reason)


@contextmanager
def _export(run: Run) -> Iterator[tuple[Export, Reference]]:
    """The model ready for converters, and Keras' answers to the validation images; intermediate files go at the end."""
    model, dataset, spec = run.model(), run.dataset(), run.record.input
    labels = np.asarray(dataset.labels)
    training, validation = run.rows("train"), run.rows("val")
    if len(validation) == 0:
        raise BadInput(f"{run.dir}: no validation images, so nothing could be proved")
    chosen = training[draw(labels[training], seed=run.record.seed)]
    judged = validation[draw(labels[validation], REFERENCE_IMAGES, seed=run.record.seed)]
    with tempfile.TemporaryDirectory(prefix="lineside-") as scratch:
        export = Export(model, spec, load(dataset, spec, chosen), Path(scratch))
        images = load(dataset, spec, judged)
        yield export, Reference(images, labels[judged], export.logits(images))
