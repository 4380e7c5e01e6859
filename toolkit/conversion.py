"""A run's model becomes artifacts, and artifacts are held against the model again."""

from __future__ import annotations

import functools
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from converters import CONVERTERS
from converters.artifact import (
    ArtifactRecord,
    build,
    check_artifact,
    file_sha256,
    is_current,
    read_artifact,
    remove,
)
from converters.calibration import draw
from converters.golden import GOLDEN_IMAGES
from converters.int8_options import DEFAULT, Int8Options
from converters.keras_export import Export, keras_logits
from converters.parity import EVIDENCE, ParityReport, Reference, check_spread, measure
from device_agent.contract.errors import BadInput, LinesideError, NotFound, NotWritable, ParityFailed
from device_agent.contract.files import sweep
from toolkit.calibration_slices import calibration_slices
from toolkit.data.images import load
from toolkit.runs import Run

REFERENCE_IMAGES = 1000
TAUGHT_ON = 4096
"""Training images at most that quantization-aware training goes over."""
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
    run: Run,
    names: Sequence[str],
    *,
    asked: Int8Options = DEFAULT,
    force: bool = False,
    progress: Progress | None = None,
) -> list[Conversion]:
    """Convert what is not there or out of date; one that fails its gate does not keep the others from being made.

    Calibration images are drawn from the training split, the gate's from the validation split; where that is small,
    training images are added to judge the logits on. What a killed conversion left behind is removed first.

    Args:
        run: a trained run.
        names: artifacts such as "litert-int8".
        asked: how int8 artifacts are to be made.
        force: convert also what is up to date.
        progress: is told the name of each artifact before its conversion starts, and each further step of it.

    Raises:
        BadInput: an unknown name.
        ParityFailed: Keras' own outputs do not spread, so that no gate could prove anything.
        NotWritable: the disk is full, read-only or forbids it.
    """
    unknown = [name for name in names if name not in CONVERTERS.names()]
    if unknown:
        raise BadInput(f"no artifact {unknown[0]!r}; known are {', '.join(CONVERTERS.names())}")
    sweep(run.dir / "artifacts")
    source = file_sha256(run.model_path)
    stale = [name for name in names if force or not is_current(run.artifact_dir(name), source, asked)]
    made = {}
    if stale:
        with _scratch(run) as scratch:
            model, calibration, reference = _load(run, asked)
            training = functools.partial(_training_images, run)
            export = Export(model, run.record.input, calibration, scratch, ranges=asked.ranges, training=training)
            for name in stale:
                if progress is not None:
                    progress(name)
                made[name] = _convert(run, name, export, reference, source, asked, progress)
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
    reference = _load(run)[-1]
    for name in names:
        if progress is not None:
            progress(name)
        found.append(_verify(run, name, reference, source))
    return found


def _convert(
    run: Run,
    name: str,
    export: Export,
    reference: Reference,
    source: str,
    asked: Int8Options,
    progress: Progress | None,
) -> Conversion:
    folder = run.artifact_dir(name)
    if not is_current(folder, source, asked):
        remove(folder)
    try:
        record = build(name, export, reference, folder, source_sha256=source, asked=asked, progress=progress)
    except (ParityFailed, BadInput) as error:
        return Conversion(name=name, outcome="failed", reason=str(error))
    return Conversion(name=name, outcome="converted", artifact=record)


def _verify(run: Run, name: str, reference: Reference, source: str) -> Verification:
    folder = run.artifact_dir(name)
    try:
        record = check_artifact(folder, source)
        path = folder / record.files[0]
        report = measure(record.runtime, record.precision, path, run.record.input, reference, max_drop=record.max_drop)
    except LinesideError as error:
        return Verification(name=name, passed=False, reason=str(error))
    reason = f"{folder}: {'; '.join(report.failures)}" if report.failures else None
    return Verification(name=name, passed=report.passed, parity=report, reason=reason)


class Drawn(NamedTuple):
    """Rows of the data set: what quantizers see, what is judged with its labels, and what is judged without."""

    calibration: NDArray[np.int64]
    judged: NDArray[np.int64]
    more: NDArray[np.int64]


def draw_rows(run: Run, asked: Int8Options = DEFAULT) -> Drawn:
    """The images of a conversion, the same ones every time.

    Calibration sees training images only, of every class and slice. Where there are fewer than `EVIDENCE` validation
    images, training images make up for it, those first that calibration does not see.

    Raises:
        BadInput: no training or no validation images, or training images of one class; no column of the name
            that is to make the slices.
    """
    labels, seed = np.asarray(run.dataset().labels), run.record.seed
    training, validation = run.rows("train"), run.rows("val")
    if len(validation) == 0:
        raise BadInput(f"{run.dir}: no validation images, so nothing could be proved")
    if len(seen := np.unique(labels[training])) == 1:
        raise BadInput(
            f"{run.dir}: all {len(training)} training images are of class {run.labels[seen[0]].name!r}, so int8 ranges "
            "would fit it alone; train on a split that has every class"
        )
    slices = calibration_slices(run.dataset(), training, asked.calibrate_by)
    calibration = training[draw(labels[training], asked.calibration, seed=seed, slices=slices)]
    judged = validation[draw(labels[validation], REFERENCE_IMAGES, seed=seed)]
    unseen = np.random.default_rng(seed).permutation(np.setdiff1d(training, calibration))
    more = np.concatenate([unseen, calibration])[: max(EVIDENCE - len(judged), 0)]
    return Drawn(calibration, judged, more)


def _load(run: Run, asked: Int8Options = DEFAULT) -> tuple[Any, NDArray[np.uint8], Reference]:
    """The Keras model, the calibration images, and what the artifacts are held against.

    Raises:
        ParityFailed: Keras' own outputs do not spread.
    """
    model, dataset, spec, drawn = run.model(), run.dataset(), run.record.input, draw_rows(run, asked)
    images = load(dataset, spec, np.concatenate([drawn.judged, drawn.more]))
    labels = np.asarray(dataset.labels)[drawn.judged]
    logits = keras_logits(model, spec, images)
    if not np.isfinite(logits).all():
        _name_layer(run, model)
    check_spread(logits, dataset.names)
    defects = [number for number, label in enumerate(run.labels) if label.role == "defect"]
    reference = Reference(images, labels, logits, run.golden(GOLDEN_IMAGES), dataset.names, defects)
    return model, load(dataset, spec, drawn.calibration), reference


def _training_images(run: Run) -> NDArray[np.uint8]:
    dataset, rows = run.dataset(), run.rows("train")
    drawn = draw(np.asarray(dataset.labels)[rows], TAUGHT_ON, seed=run.record.seed)
    return np.asarray(load(dataset, run.record.input, rows[drawn]))


def _name_layer(run: Run, model: Any) -> None:
    """Raise for the first layer whose weights are not finite, if one's are."""
    for layer in model.layers:
        if not all(np.isfinite(weights).all() for weights in layer.get_weights()):
            raise ParityFailed(
                f"{run.model_path}: weights of layer {layer.name!r} are not finite; train again with --fresh"
            )


@contextmanager
def _scratch(run: Run) -> Iterator[Path]:
    """A folder for intermediate files, hidden among the artifacts, where the next conversion sweeps what is left of it.

    Raises:
        NotWritable: the disk is full, read-only or forbids it.
    """
    artifacts = run.dir / "artifacts"
    try:
        artifacts.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".scratch.", suffix=".part", dir=artifacts))
    except OSError as error:
        raise NotWritable(f"{artifacts}: cannot be written: {(error.strerror or str(error)).lower()}") from error
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
