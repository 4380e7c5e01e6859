"""How good a model is, measured with the device's own preprocessing and runtime. No training framework is loaded,
unless the Keras model itself is asked for.

RUN/evaluation/<artifact>.json holds the validation result: it fits the temperature and counts the baseline.
RUN/evaluation/<artifact>.test.json holds the held-out result and how many times the split was scored.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

import msgspec
import numpy as np

from device_agent.contract.codec import read_document_file
from device_agent.contract.errors import BadInput, NotFound
from device_agent.contract.files import write_whole
from device_agent.contract.manifest import Baseline
from toolkit.evaluation.answers import Answers, Progress, Subject, answers_of, subject_of, times_scored
from toolkit.evaluation.baseline import count_baseline
from toolkit.evaluation.calibration import ReliabilityBin, calibrated_elsewhere, error, fit_temperature, reliability
from toolkit.evaluation.figures import Figure, Judged, Role, Task, measure_figures, top_labels
from toolkit.evaluation.metrics import measure, softmax
from toolkit.runs import Run

EVALUATION_SCHEMA = "1.2"
Split = Literal["val", "test"]


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of one model on one split, in [0, 1], measured through the device's own code.

    `figures` holds every figure by name with its 95 % interval over groups, see `toolkit.evaluation.figures`; the
    fields beside it are the ones that were there before it. `recall` and `precision_` stand in the order of `labels`,
    None for a class that has no image (recall) or no answer (precision). `ece` is over 15 equal-mass bins, `ece_raw`
    before the temperature, `ece_equal_width` over bins of equal width; on the validation split it is taken on images
    whose group took no part in fitting the temperature. `temperature` is fitted on all validation images.
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
    task: Task = "classes"
    ece_equal_width: float | None = None
    figures: dict[str, Figure] = {}


def evaluate_artifact(
    run: Run,
    name: str,
    *,
    split: Split = "val",
    threads: int = 1,
    progress: Progress | None = None,
    answers: Answers | None = None,
) -> Evaluation:
    """The figures of an artifact, or of "keras", on a split; they are saved in the run.

    Scoring "test" counts how often that was done; the temperature is then the one from the validation images, which are
    evaluated first if need be. `answers` are those of `answers_of` for the split, where the caller has them already.

    Raises:
        NotFound: the artifact or the data are not there.
        ParityFailed: the artifact gives logits that are not finite, or for another number of classes.
    """
    subject = subject_of(run, name)
    read_evaluation(run, name, split)
    fitted = None if split == "val" else ensure_evaluation(run, name, threads=threads).temperature
    if answers is None:
        answers = answers_of(run, name, split, threads=threads, progress=progress)
    result = score(run, subject, answers, split=split, temperature=fitted)
    if split == "test":
        result = msgspec.structs.replace(result, times_scored=times_scored(run, name))
    text = msgspec.json.format(msgspec.json.encode(result, order="sorted"), indent=2)
    write_whole(evaluation_path(run, name, split), text + b"\n")
    return result


def score(run: Run, subject: Subject, answers: Answers, *, split: Split, temperature: float | None) -> Evaluation:
    """The figures of answers; with `temperature` None it is fitted on them."""
    fitting = temperature is None
    logits, groups, task = answers.logits, answers.groups, task_of(run)
    labels = top_labels(logits, answers.labels, answers.marks)
    temperature = fit_temperature(logits, labels) if temperature is None else temperature
    judged = judge(run, answers, temperature, elsewhere=fitting)
    figures = measure_figures(judged, rng=np.random.default_rng(0))
    metrics = measure(logits, labels, temperature=temperature)
    names = judged.names
    accuracy, macro_f1 = figures["accuracy"], figures["macro-f1"]
    return Evaluation(
        artifact=subject.name,
        artifact_sha256=subject.sha256,
        data_sha256=run.record.data_sha256,
        runtime=subject.runtime,
        runtime_version=answers.runtime_version,
        precision=subject.precision,
        split=split,
        labels=names,
        images=len(labels),
        groups=len(np.unique(groups)),
        accuracy=accuracy.value,
        accuracy_interval=(accuracy.low, accuracy.high),
        balanced_accuracy=figures["balanced-accuracy"].value,
        macro_f1=macro_f1.value,
        macro_f1_interval=(macro_f1.low, macro_f1.high),
        recall=[_value(figures, f"recall.{name}") for name in names],
        precision_=[_precision(judged, place) for place in range(len(names))],
        confusion=metrics.confusion,
        ece_raw=error(softmax(logits), labels),
        ece=figures["ece"].value,
        temperature=temperature,
        reliability=reliability(judged.probabilities, labels),
        baseline=count_baseline(logits, labels, temperature, run.record.prevalence) if fitting else None,
        task=task,
        ece_equal_width=figures["ece-equal-width"].value,
        figures=figures,
    )


def judge(run: Run, answers: Answers, temperature: float, *, elsewhere: bool = False) -> Judged:
    """Answers as figures need them; with `elsewhere` each probability is at a temperature fitted on other groups."""
    labels = top_labels(answers.logits, answers.labels, answers.marks)
    return Judged(
        logits=answers.logits,
        probabilities=(
            calibrated_elsewhere(answers.logits, labels, answers.groups)
            if elsewhere
            else softmax(answers.logits / temperature)
        ),
        labels=answers.labels,
        groups=answers.groups,
        names=[label.name for label in run.labels],
        roles=roles_of(run),
        task=task_of(run),
        marks=answers.marks,
    )


def task_of(run: Run) -> Task:
    """The task that the run was trained for.

    Raises:
        BadInput: one that this version does not know.
    """
    said = run.record.recipe.get("task", "classes")
    try:
        task: Task = msgspec.convert(said, Task)
    except msgspec.ValidationError as error:
        raise BadInput(f"{run.dir}: task {said!r} is none of {', '.join(get_args(Task))}") from error
    return task


def roles_of(run: Run) -> list[Role]:
    """Role of each class, in the order of the logits."""
    return [label.role for label in run.labels]


def _value(figures: dict[str, Figure], name: str) -> float | None:
    return figures[name].value if name in figures else None


def _precision(judged: Judged, place: int) -> float | None:
    said = judged.said()[:, place]
    return float(judged.truth()[said, place].mean()) if said.any() else None


def ensure_evaluation(run: Run, name: str, *, threads: int = 1, progress: Progress | None = None) -> Evaluation:
    """The validation result: the saved one where it is of these very files and data, a new one otherwise."""
    saved = read_evaluation(run, name, "val")
    if saved is not None and saved.artifact_sha256 == subject_of(run, name).sha256 and _is_current(run, saved):
        return saved
    return evaluate_artifact(run, name, threads=threads, progress=progress)


def _is_current(run: Run, saved: Evaluation) -> bool:
    stated = saved.baseline.prevalence if saved.baseline else None
    known = saved.schema == EVALUATION_SCHEMA and saved.data_sha256 == run.record.data_sha256
    return known and stated == run.record.prevalence


def is_of_today(run: Run, name: str, artifact_sha256: str, data_sha256: str) -> bool:
    """Whether something was measured of the artifact (or "keras") and the data that the run has now."""
    try:
        return data_sha256 == run.record.data_sha256 and artifact_sha256 == subject_of(run, name).sha256
    except NotFound:
        return False


def evaluation_path(run: Run, name: str, split: Split = "val") -> Path:
    """Where the result of an artifact lies."""
    return run.dir / "evaluation" / (f"{name}.json" if split == "val" else f"{name}.{split}.json")


def read_evaluation(run: Run, name: str, split: Split = "val") -> Evaluation | None:
    """The saved result, None where there is none.

    Raises:
        BadInput: it is damaged.
    """
    hint = f"; take this file away, and evaluate again with: lineside evaluate {run.dir}"
    return read_document_file(evaluation_path(run, name, split), Evaluation, reads=EVALUATION_SCHEMA, hint=hint)
