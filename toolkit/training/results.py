"""What a training leaves in the run's folder, and how it is read back."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from converters.macro_f1 import macro_f1
from device_agent.contract.errors import BadInput
from device_agent.contract.files import write_whole
from toolkit.evaluation.figures import Judged, top_labels
from toolkit.evaluation.metrics import Metrics, measure, softmax
from toolkit.models.answers import predict
from toolkit.models.files import save_model
from toolkit.runs import RunRecord, write_record
from toolkit.training.checkpoint import Checkpoint, Epoch
from toolkit.training.curves import plot_confusion, plot_history, write_health, write_history
from toolkit.training.examples import Examples
from toolkit.training.health import LayerHealth
from toolkit.training.judgement import Judge
from toolkit.training.recipe import Recipe
from toolkit.training.selection import settled

RESULTS = ("model.keras", "history.csv", "health.csv", "curves.png", "confusion.png", "metrics.json")


class TrainingResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a training gave. `epoch` is the one whose weights were kept, 0 for the probe, `blend` how far from
    the probe to it they lie (1: they are its own); `metrics` are measured on the
    validation images by Keras, `figures` are those of the kept epoch in its task; `warnings` say which layers were not
    well, and when; `seconds` is the wall time of this call."""

    run: str
    already_trained: bool
    prevalence_changed: bool = False
    start: Literal["probe", "scratch"]
    epoch: int
    blend: float = 1.0
    epochs: int
    metrics: Metrics
    figures: dict[str, float | None] = {}
    warnings: list[str] = []
    seconds: float
    measured_on: str = "validation"


class _Document(msgspec.Struct, kw_only=True):
    measured_on: str = "validation"
    by: str = "keras"
    epoch: int
    blend: float = 1.0
    metrics: Metrics
    recall: dict[str, float | None] = {}
    probe: dict[str, int] | None = None
    warnings: list[str] = []
    history: list[dict[str, Any]]


def document_of(
    record: RunRecord,
    recipe: Recipe,
    judge: Judge,
    model: Any,
    state: Checkpoint,
    val: Examples,
    *,
    kept: Epoch | None = None,
) -> _Document:
    """What metrics.json says of a model that has the weights that were kept; `kept` is the line of history they are of
    where it is not for the recipe to say."""
    metrics = _counted(predict(model, val.images, record.input), val, judge)
    kept = kept or settled(state.history, recipe.stop_on, recipe.epochs)
    return _Document(
        epoch=kept.epoch,
        blend=kept.blend,
        metrics=metrics,
        recall=dict(zip([label.name for label in record.labels], metrics.recall, strict=True)),
        probe=state.notes.get("probe"),
        warnings=state.notes.get("warnings", []),
        history=[msgspec.to_builtins(row) for row in state.history],
    )


def _counted(logits: NDArray[np.floating], val: Examples, judge: Judge) -> Metrics:
    """As `lineside evaluate` counts them: with several marks an image, recall and macro-F1 are those of each mark."""
    judged = Judged(
        logits=logits,
        probabilities=softmax(logits),
        labels=val.labels,
        groups=val.groups,
        names=[str(column) for column in range(len(judge.roles))],
        roles=list(judge.roles),
        task=judge.task,
        marks=val.marks,
    )
    truth, said = judged.truth(), judged.said()
    counts = np.stack([truth & said, truth, said]).sum(axis=1).astype(np.float64)
    return msgspec.structs.replace(
        measure(logits, top_labels(logits, val.labels, val.marks)),
        macro_f1=float(macro_f1(counts)),
        recall=[float(hit / all_) if all_ else None for hit, all_ in zip(counts[0], counts[1], strict=True)],
    )


def write_results(out: Path, record: RunRecord, model: Any, state: Checkpoint, document: _Document) -> None:
    """Everything that a run consists of; run.json says "trained" only after all of it is on the disk."""
    metrics = document.metrics
    save_model(model, out / "model.keras")
    write_history(out / "history.csv", state.history)
    write_health(out / "health.csv", msgspec.convert(state.notes.get("health", []), list[LayerHealth]))
    plot_history(out / "curves.png", state.history, kept=document.epoch)
    plot_confusion(out / "confusion.png", metrics, [label.name for label in record.labels])
    write_whole(out / "metrics.json", msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")
    figures = {"val_accuracy": metrics.accuracy, "val_macro_f1": metrics.macro_f1, "val_ece": metrics.ece}
    write_record(out, msgspec.structs.replace(record, status="trained", metrics=figures))


def report(out: Path, record: RunRecord, *, already: bool, began: float) -> TrainingResult:
    """The result as the folder tells it; what was needed to go on is removed.

    Raises:
        BadInput: metrics.json is damaged or missing.
    """
    shutil.rmtree(out / "checkpoint", ignore_errors=True)
    path = out / "metrics.json"
    try:
        document = msgspec.json.decode(path.read_bytes(), type=_Document)
    except (OSError, msgspec.MsgspecError) as error:
        raise BadInput(f"{path}: damaged or missing; train again with --fresh") from error
    return result(out, record, document, already=already, began=began)


def result(out: Path, record: RunRecord, document: _Document, *, already: bool, began: float) -> TrainingResult:
    """What a document says of a run."""
    wanted = (document.epoch, document.blend)
    rows = (row for row in document.history if (row.get("epoch"), row.get("blend", 1.0)) == wanted)
    kept: dict[str, Any] = next(rows, {})
    return TrainingResult(
        run=str(out),
        already_trained=already,
        start="probe" if record.recipe.get("weights") else "scratch",
        epoch=document.epoch,
        blend=document.blend,
        epochs=sum(row.get("blend", 1.0) == 1.0 for row in document.history),
        metrics=document.metrics,
        figures={name: value for name, value in kept.items() if name.startswith("val_")},
        warnings=document.warnings,
        seconds=round(time.monotonic() - began, 1),
    )
