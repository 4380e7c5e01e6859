"""How good an artifact is, measured with the device's own preprocessing and runtime. No training framework is loaded.

RUN/evaluation/<artifact>.json holds the validation result: it fits the temperature and counts the baseline.
RUN/evaluation/<artifact>.test.json holds the held-out result and how many times the split was scored.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.codec import read_document_file
from device_agent.contract.errors import BadInput, ParityFailed
from device_agent.contract.files import write_whole
from device_agent.contract.manifest import Baseline
from device_agent.runtimes import Runtime
from device_agent.runtimes import logits as logits_of
from toolkit.artifacts import Artifact, open_artifact
from toolkit.evaluation.baseline import count_baseline
from toolkit.evaluation.calibration import ReliabilityBin, calibrated_elsewhere, error, fit_temperature, reliability
from toolkit.evaluation.intervals import group_bootstrap
from toolkit.evaluation.metrics import measure, softmax
from toolkit.runs import Run

EVALUATION_SCHEMA = "1.0"
Split = Literal["val", "test"]
Progress = Callable[[int, int], None]


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of one artifact on one split, in [0, 1], measured through the device's own code.

    Intervals are 95 %, over groups. `recall` and `precision_` stand in the order of `labels`, None for a class that has
    no image (recall) or no answer (precision). `ece` is after the temperature; on the validation split it is taken on
    images whose group took no part in fitting it. `temperature` is the artifact's, fitted on all validation images.
    """

    schema: str = EVALUATION_SCHEMA
    artifact: str
    artifact_sha256: str
    data_sha256: str
    runtime: str
    runtime_version: str
    precision: str
    split: Split
    labels: list[str]
    images: int
    groups: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    balanced_accuracy: float
    macro_f1: float
    macro_f1_interval: tuple[float, float]
    recall: list[float | None]
    precision_: list[float | None] = msgspec.field(name="class_precision")
    confusion: list[list[int]]
    ece_raw: float
    ece: float
    temperature: float
    reliability: list[ReliabilityBin]
    baseline: Baseline | None = None
    times_scored: int = 1
    provenance: Literal["measured"] = "measured"


def evaluate_artifact(
    run: Run, name: str, *, split: Split = "val", threads: int = 1, progress: Progress | None = None
) -> Evaluation:
    """Run every image of the split through the artifact, save the result in the run, and return it.

    Scoring "test" counts how often that was done; the temperature is then the one from the validation images, which are
    evaluated first if need be.

    Raises:
        NotFound: the artifact or the data are not there.
        ParityFailed: the artifact gives logits that are not finite, or for another number of classes.
    """
    artifact = open_artifact(run, name)
    before = read_evaluation(run, name, split)
    fitted = None if split == "val" else ensure_evaluation(run, name, threads=threads).temperature
    images, labels = run.images(split)
    rows = run.rows(split)
    if not len(labels):
        raise BadInput(f"{run.dir}: the {split} split has no images")
    runtime = artifact.open(run.record.input, threads=threads)
    try:
        logits = infer(runtime, images, progress=progress)
        version = runtime.version
    finally:
        runtime.close()
    check_logits(logits, len(run.labels), where=f"{run.dir}: {name}")
    groups = np.asarray(run.dataset().groups)[rows]
    result = score(run, artifact, logits, labels, groups, split=split, temperature=fitted, runtime_version=version)
    if before is not None and split == "test":
        result = msgspec.structs.replace(result, times_scored=before.times_scored + 1)
    text = msgspec.json.format(msgspec.json.encode(result, order="sorted"), indent=2)
    write_whole(evaluation_path(run, name, split), text + b"\n")
    return result


def score(
    run: Run,
    artifact: Artifact,
    logits: NDArray[np.float32],
    labels: NDArray[np.int64],
    groups: NDArray[np.str_],
    *,
    split: Split,
    temperature: float | None,
    runtime_version: str,
) -> Evaluation:
    """The figures for logits (n, classes) of images with known labels (n,) and groups (n,); with `temperature` None it
    is fitted on these images."""
    fitting = temperature is None
    temperature = fit_temperature(logits, labels) if temperature is None else temperature
    probabilities = calibrated_elsewhere(logits, labels, groups) if fitting else softmax(logits / temperature)
    metrics = measure(logits, labels, temperature=temperature)
    confusion = np.array(metrics.confusion)
    said = confusion.sum(axis=0)
    accuracy_interval, macro_f1_interval = group_bootstrap(
        labels, logits.argmax(axis=1), groups, len(confusion), rng=np.random.default_rng(0)
    )
    prevalence = run.record.prevalence
    return Evaluation(
        artifact=artifact.name,
        artifact_sha256=artifact.sha256,
        data_sha256=run.record.data_sha256,
        runtime=artifact.runtime,
        runtime_version=runtime_version,
        precision=artifact.precision,
        split=split,
        labels=[label.name for label in run.labels],
        images=metrics.images,
        groups=len(np.unique(groups)),
        accuracy=metrics.accuracy,
        accuracy_interval=accuracy_interval,
        balanced_accuracy=float(np.mean([recall for recall in metrics.recall if recall is not None])),
        macro_f1=metrics.macro_f1,
        macro_f1_interval=macro_f1_interval,
        recall=metrics.recall,
        precision_=[float(hit / all_) if all_ else None for hit, all_ in zip(np.diag(confusion), said, strict=True)],
        confusion=metrics.confusion,
        ece_raw=error(softmax(logits), labels),
        ece=error(probabilities, labels),
        temperature=temperature,
        reliability=reliability(probabilities, labels),
        baseline=count_baseline(logits, labels, temperature, prevalence) if fitting else None,
    )


def infer(runtime: Runtime, images: NDArray[np.uint8], *, progress: Progress | None = None) -> NDArray[np.float32]:
    """Logits (n, classes) float32 of fitted images (n, height, width, channels) uint8, one by one, as on a device."""
    out = np.empty((len(images), runtime.classes), np.float32)
    for row, image in enumerate(images):
        out[row] = logits_of(runtime, image)
        if progress is not None:
            progress(row + 1, len(images))
    return out


def check_logits(logits: NDArray[np.float32], classes: int, *, where: str) -> None:
    """Refuse answers that cannot be scored.

    Raises:
        ParityFailed: logits that are not finite, or for another number of classes.
    """
    if logits.shape[1] != classes:
        raise ParityFailed(f"{where} gives {logits.shape[1]} logits, the run has {classes} classes; convert it again")
    wrong = int((~np.isfinite(logits).all(axis=1)).sum())
    if wrong:
        raise ParityFailed(f"{where} gives logits that are not finite for {wrong} of {len(logits)} images")


def ensure_evaluation(run: Run, name: str, *, threads: int = 1, progress: Progress | None = None) -> Evaluation:
    """The validation result: the saved one where it is of these very files and data, a new one otherwise."""
    saved = read_evaluation(run, name, "val")
    if saved is not None and saved.artifact_sha256 == open_artifact(run, name).sha256 and _is_current(run, saved):
        return saved
    return evaluate_artifact(run, name, threads=threads, progress=progress)


def _is_current(run: Run, saved: Evaluation) -> bool:
    stated = saved.baseline.prevalence if saved.baseline else None
    return saved.data_sha256 == run.record.data_sha256 and stated == run.record.prevalence


def evaluation_path(run: Run, name: str, split: Split = "val") -> Path:
    """Where the result of an artifact lies."""
    return run.dir / "evaluation" / (f"{name}.json" if split == "val" else f"{name}.{split}.json")


def read_evaluation(run: Run, name: str, split: Split = "val") -> Evaluation | None:
    """The saved result, None where there is none.

    Raises:
        BadInput: it is damaged.
    """
    hint = f"; evaluate again with: lineside evaluate {run.dir}"
    return read_document_file(evaluation_path(run, name, split), Evaluation, reads=EVALUATION_SCHEMA, hint=hint)
