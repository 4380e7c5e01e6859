"""A folder of images becomes a run: split, probe or training from scratch, model, figures. Interrupted, it goes on."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from device_agent.contract.files import write_whole
from toolkit.augment import FLIPS, flip
from toolkit.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from toolkit.curves import plot_confusion, plot_history, write_history
from toolkit.epochs import Examples, Unwatched, Watch, judge, run_epochs
from toolkit.framework import load_keras, package_versions
from toolkit.images import Dataset, load
from toolkit.metrics import Metrics, balanced_loss, measure
from toolkit.models import build, predict, save_model, settle_statistics
from toolkit.probe import fit_probe
from toolkit.recipe import Recipe, differences
from toolkit.runs import RunRecord, read_record, write_record, write_split

OWN = ("run.json", "model.keras", "split.csv", "history.csv", "curves.png", "confusion.png", "metrics.json")
OWN_FOLDERS = ("checkpoint", "artifacts", "evaluation")
STATISTICS_IMAGES = 128


class TrainingResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a training gave. `epoch` is the one whose weights were kept, 0 for the probe; `metrics` are measured on the
    validation images by Keras; `seconds` is the wall time of this call."""

    run: str
    already_trained: bool
    start: Literal["probe", "scratch"]
    epoch: int
    epochs: int
    metrics: Metrics
    seconds: float
    measured_on: str = "validation"


def train(
    dataset: Dataset,
    split: NDArray[np.str_],
    out: Path,
    recipe: Recipe,
    *,
    weights: str | None = None,
    prevalence: list[float] | None = None,
    fresh: bool = False,
    watch: Watch | None = None,
) -> TrainingResult:
    """The run in folder `out`, trained on the images whose `split` (n,) is "train" and judged on those of "val".

    Images of "test" are not read. A training that was interrupted goes on after its last whole epoch; one that is done
    is left alone; `fresh` starts over. `weights` is the path behind recipe.weights.

    Raises:
        BadInput: the folder holds something else, or a run of another recipe or other images; the training diverged.
        NotWritable: the disk is full, read-only or forbids it.
    """
    began, watch = time.monotonic(), watch or Unwatched()
    watch.stage("reading")
    record = _open(dataset, out, recipe, prevalence, fresh)
    if record.status == "trained":
        return _report(out, record, already=True, began=began)
    for name in ("train", "val"):
        absent = set(range(len(dataset.names))) - set(dataset.labels[split == name].tolist())
        if absent:
            raise BadInput(f"{dataset.dir}: class {dataset.names[min(absent)]!r} has no image in the {name} split")
    write_split(out / "split.csv", dataset, split)
    write_record(out, record)
    examples = [_examples(dataset, split == name, recipe) for name in ("train", "val")]
    model, state = _learn(recipe, examples[0], examples[1], len(dataset.names), weights, out / "checkpoint", watch)
    watch.stage("writing")
    _write(out, record, model, state, examples[1])
    return _report(out, record, already=False, began=began)


def _open(dataset: Dataset, out: Path, recipe: Recipe, prevalence: list[float] | None, fresh: bool) -> RunRecord:
    """The record to go on with: what the folder holds, if it is the same training, or a new one."""
    new = RunRecord(
        status="training",
        name=out.resolve().name,
        labels=dataset.label_list(),
        input=recipe.architecture.input_spec(),
        family=recipe.architecture.family,
        alpha=recipe.architecture.alpha,
        seed=recipe.seed,
        data=str(dataset.dir.resolve()),
        data_sha256=dataset.sha256(),
        recipe=recipe.document(),
        packages=package_versions(),
        prevalence=prevalence,
    )
    if out.exists() and not out.is_dir():
        raise BadInput(f"{out}: is a file; a run needs a folder")
    old = read_record(out)
    if old is None and out.is_dir() and any(path.name not in OWN_FOLDERS for path in out.iterdir()):
        raise BadInput(f"{out}: is not empty and holds no run; name another folder")
    if fresh or old is None:
        _clear(out)
        return new
    changes = differences(_identity(old), _identity(new))
    if changes:
        raise BadInput(f"{out}: holds another training: {'; '.join(changes)}; name another folder, or --fresh")
    _sweep(out)
    return new if old.status == "training" else old


def _identity(record: RunRecord) -> dict[str, Any]:
    classes = [f"{label.name} ({label.role})" for label in record.labels]
    images = f"images {record.data_sha256[:12]}"
    return record.recipe | {"data": images, "classes": ", ".join(classes), "prevalence": record.prevalence}


def _clear(out: Path) -> None:
    """Remove what a run consists of, the record first: without it nothing passes for a run."""
    for name in OWN:
        (out / name).unlink(missing_ok=True)
    for name in OWN_FOLDERS:
        shutil.rmtree(out / name, ignore_errors=True)
    _sweep(out)


def _sweep(out: Path) -> None:
    """Remove what a killed process left half-written."""
    for path in [*out.glob(".*.part*"), *out.glob("checkpoint/.*.part")]:
        path.unlink(missing_ok=True)


def _examples(dataset: Dataset, chosen: NDArray[np.bool_], recipe: Recipe) -> Examples:
    rows = np.flatnonzero(chosen)
    images = load(dataset, recipe.architecture.input_spec(), rows)
    return Examples(images, np.asarray(dataset.labels, np.int64)[rows], np.asarray(dataset.groups)[rows])


def _learn(
    recipe: Recipe, train: Examples, val: Examples, classes: int, weights: str | None, folder: Path, watch: Watch
) -> tuple[Any, Checkpoint]:
    """The model with the best weights on validation, the probe's among them, and how it came to them."""
    keras = load_keras()
    keras.utils.set_random_seed(recipe.seed)
    state = load_checkpoint(folder / "state.npz")
    start = weights if state is None else None
    model = build(recipe.architecture, classes, weights=start, dropout=recipe.dropout)
    if state is None:
        state = Checkpoint(history=[], weights=[], optimizer=[], best=[])
        if weights is not None:
            watch.stage("probe")
            state = _start_from_probe(model, recipe, train, val)
            save_checkpoint(folder / "state.npz", state)
            watch.epoch(state.history[0], recipe.epochs)
        else:
            some = np.random.default_rng(recipe.seed).permutation(len(train.labels))[:STATISTICS_IMAGES]
            settle_statistics(model, train.images[some], recipe.architecture.input_spec())
    if weights is not None:
        for layer in model.layers:
            layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
    watch.stage("training")
    state = run_epochs(model, recipe, train, val, state, folder / "state.npz", watch)
    model.set_weights(state.best)
    model.trainable = True
    return model, state


def _start_from_probe(model: Any, recipe: Recipe, train: Examples, val: Examples) -> Checkpoint:
    """The probe becomes the model's last layer; the state in which it then is."""
    began, keras = time.monotonic(), load_keras()
    trunk = keras.Model(model.inputs[0], model.get_layer("pooled").output)
    spec = recipe.architecture.input_spec()
    views = [predict(trunk, flip(train.images, *signs), spec) for signs in FLIPS]
    probe = fit_probe(views, train.labels, train.groups, seed=recipe.seed)
    model.get_layer("logits").set_weights([probe.kernel, probe.bias])
    loss = balanced_loss(views[0].astype(np.float64) @ probe.kernel + probe.bias, train.labels)
    row = judge(predict(model, val.images, spec), val, epoch=0, loss=loss, lr=0.0, began=began)
    return Checkpoint(history=[row], weights=model.get_weights(), optimizer=[], best=model.get_weights())


def _write(out: Path, record: RunRecord, model: Any, state: Checkpoint, val: Examples) -> None:
    """Everything that a run consists of; run.json says "trained" only after all of it is on the disk."""
    save_model(model, out / "model.keras")
    metrics = measure(predict(model, val.images, record.input), val.labels)
    names = [label.name for label in record.labels]
    write_history(out / "history.csv", state.history)
    plot_history(out / "curves.png", state)
    plot_confusion(out / "confusion.png", metrics, names)
    document = {"measured_on": "validation", "by": "keras", "epoch": state.best_epoch.epoch, "metrics": metrics}
    document["recall"] = dict(zip(names, metrics.recall, strict=True))
    document["history"] = state.history
    write_whole(out / "metrics.json", msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")
    figures = {"val_accuracy": metrics.accuracy, "val_macro_f1": metrics.macro_f1, "val_ece": metrics.ece}
    write_record(out, msgspec.structs.replace(record, status="trained", metrics=figures))
    shutil.rmtree(out / "checkpoint", ignore_errors=True)


class _Document(msgspec.Struct):
    epoch: int
    metrics: Metrics
    history: list[Any]


def _report(out: Path, record: RunRecord, *, already: bool, began: float) -> TrainingResult:
    """The result as the folder tells it."""
    shutil.rmtree(out / "checkpoint", ignore_errors=True)
    path = out / "metrics.json"
    try:
        document = msgspec.json.decode(path.read_bytes(), type=_Document)
    except (OSError, msgspec.MsgspecError) as error:
        raise BadInput(f"{path}: damaged or missing; train again with --fresh") from error
    return TrainingResult(
        run=str(out),
        already_trained=already,
        start="probe" if record.recipe.get("weights") else "scratch",
        epoch=document.epoch,
        epochs=len(document.history),
        metrics=document.metrics,
        seconds=round(time.monotonic() - began, 1),
    )


def continues(out: Path) -> bool:
    """Whether an unfinished training waits in the folder."""
    record = read_record(out)
    return record is not None and record.status == "training" and (out / "checkpoint" / "state.npz").exists()
