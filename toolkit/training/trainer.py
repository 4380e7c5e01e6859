"""A folder of images becomes a run: split, probe or training from scratch, model, figures. Interrupted, it goes on."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput, NotWritable
from device_agent.contract.files import sweep, write_whole
from toolkit.data.images import Dataset, load
from toolkit.evaluation.metrics import Metrics, balanced_loss, measure
from toolkit.framework import load_keras, package_versions
from toolkit.models.networks import build, predict, save_model, settle_statistics
from toolkit.paths import locked, reading, remove
from toolkit.runs import RunRecord, read_record, split_table, write_record, write_split
from toolkit.training.augment import FLIPS, flip
from toolkit.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from toolkit.training.curves import plot_confusion, plot_history, write_history
from toolkit.training.epochs import Examples, Save, Unwatched, Watch, judge, run_epochs
from toolkit.training.probe import fit_probe
from toolkit.training.recipe import Recipe, differences

RESULTS = ("model.keras", "history.csv", "curves.png", "confusion.png", "metrics.json")
LATER = ("artifacts", "evaluation", "benchmark")  # what later steps made of the model
OWN = frozenset({"run.json", "split.csv", "checkpoint", *RESULTS, *LATER})
CHECKPOINT = Path("checkpoint", "state.npz")
STATISTICS_IMAGES = 128


class TrainingResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a training gave. `epoch` is the one whose weights were kept, 0 for the probe; `metrics` are measured on the
    validation images by Keras; `seconds` is the wall time of this call."""

    run: str
    already_trained: bool
    prevalence_changed: bool = False
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
    is left alone but for another `prevalence`, which is noted (None keeps what is noted). `fresh` starts over: what
    the folder holds is touched when the new training has a first checkpoint.
    `weights` is the path behind recipe.weights.

    Raises:
        BadInput: the folder holds something else, or a run of another recipe, split or other images, or another
            training is under way in it; the training diverged.
        NotWritable: the disk is full, read-only or forbids it.
    """
    began, watch = time.monotonic(), watch or Unwatched()
    for name in ("train", "val"):
        absent = set(range(len(dataset.names))) - set(dataset.labels[split == name].tolist())
        if absent:
            raise BadInput(f"{dataset.dir}: class {dataset.names[min(absent)]!r} has no image in the {name} split")
    with reading(out):
        if out.exists() and not out.is_dir():
            raise BadInput(f"{out}: is a file; a run needs a folder")
    with locked(out, f"{out}: another training is under way in this folder; wait for it, or name another folder"):
        watch.stage("reading")
        record = _record(dataset, split, out, recipe, prevalence)
        old = _held(out, record, fresh)
        if old is not None and prevalence is None:
            record = msgspec.structs.replace(record, prevalence=old.prevalence)
        if old is not None and old.status == "trained":
            restated = _restated(out, old, record.prevalence)
            found = _report(out, old, already=True, began=began)
            return msgspec.structs.replace(found, prevalence_changed=restated)
        if not os.access(out, os.W_OK):
            raise NotWritable(f"{out}: cannot be written: permission denied")
        examples = [_examples(dataset, split == name, recipe) for name in ("train", "val")]
        state = None if old is None else load_checkpoint(out / CHECKPOINT)
        keep = _keeper(out, record, dataset, split, begun=state is not None)
        model, state = _learn(recipe, examples[0], examples[1], len(dataset.names), weights, state, keep, watch)
        watch.stage("writing")
        _write(out, record, model, state, examples[1])
        return _report(out, record, already=False, began=began)


def _record(
    dataset: Dataset, split: NDArray[np.str_], out: Path, recipe: Recipe, prevalence: list[float] | None
) -> RunRecord:
    return RunRecord(
        status="training",
        name=out.resolve().name,
        labels=dataset.label_list(),
        input=recipe.architecture.input_spec(),
        family=recipe.architecture.family,
        alpha=recipe.architecture.alpha,
        seed=recipe.seed,
        data=str(dataset.dir.resolve()),
        data_sha256=dataset.sha256(),
        split_sha256=hashlib.sha256(split_table(dataset, split)).hexdigest(),
        recipe=recipe.document(),
        packages=package_versions(),
        prevalence=prevalence,
    )


def _held(out: Path, new: RunRecord, fresh: bool) -> RunRecord | None:
    """The record of the same training in the folder; None where nothing is there, or what is there may go."""
    sweep(out, *OWN)
    sweep(out / CHECKPOINT.parent)
    with reading(out):
        names = {path.name for path in out.iterdir()}
    try:
        old = read_record(out)
    except BadInput:
        if fresh and names <= OWN:
            return None
        raise
    if old is None and names:
        raise BadInput(f"{out}: is not empty and holds no run; name another folder")
    if old is None or fresh:
        return None
    changes = differences(_identity(old), _identity(new))
    if changes:
        raise BadInput(f"{out}: holds another training: {'; '.join(changes)}; name another folder, or --fresh")
    if old.status == "trained" and "model.keras" not in names:
        raise BadInput(f"{out}: its model.keras is gone; train again with --fresh")
    return old


def _restated(out: Path, old: RunRecord, prevalence: list[float] | None) -> bool:
    """Whether the record had another prevalence, which no weight depends on; it then has the new one."""
    if prevalence == old.prevalence:
        return False
    write_record(out, msgspec.structs.replace(old, prevalence=prevalence))
    return True


def _identity(record: RunRecord) -> dict[str, Any]:
    classes = [f"{label.name} ({label.role})" for label in record.labels]
    given = {"data": f"images {record.data_sha256[:12]}", "split": f"table {record.split_sha256[:12]}"}
    return record.recipe | given | {"classes": ", ".join(classes)}


def _keeper(out: Path, record: RunRecord, dataset: Dataset, split: NDArray[np.str_], *, begun: bool) -> Save:
    """What saves a state. The first of a training that has not `begun` takes the place of what the folder held; the
    old checkpoint goes first and the new record comes next, so that a kill leaves no mixture of two trainings."""

    def keep(state: Checkpoint) -> None:
        nonlocal begun
        if not begun:
            remove(out / "checkpoint")
            write_record(out, record)
            for name in (*RESULTS, *LATER):
                remove(out / name)
            write_split(out / "split.csv", dataset, split)
            begun = True
        save_checkpoint(out / CHECKPOINT, state)

    return keep


def _examples(dataset: Dataset, chosen: NDArray[np.bool_], recipe: Recipe) -> Examples:
    rows = np.flatnonzero(chosen)
    images = load(dataset, recipe.architecture.input_spec(), rows)
    return Examples(images, np.asarray(dataset.labels, np.int64)[rows], np.asarray(dataset.groups)[rows])


def _learn(
    recipe: Recipe,
    train: Examples,
    val: Examples,
    classes: int,
    weights: str | None,
    state: Checkpoint | None,
    keep: Save,
    watch: Watch,
) -> tuple[Any, Checkpoint]:
    """The model with the best weights on validation, the probe's among them, and how it came to them; it goes on from
    `state`, if there is one."""
    keras = load_keras()
    keras.utils.set_random_seed(recipe.seed)
    start = weights if state is None else None
    model = build(recipe.architecture, classes, weights=start, dropout=recipe.dropout)
    if state is None:
        state = Checkpoint(history=[], weights=[], optimizer=[], best=[])
        if weights is not None:
            watch.stage("probe")
            state = _start_from_probe(model, recipe, train, val)
            keep(state)
            watch.epoch(state.history[0], recipe.epochs)
        else:
            some = np.random.default_rng(recipe.seed).permutation(len(train.labels))[:STATISTICS_IMAGES]
            settle_statistics(model, train.images[some], recipe.architecture.input_spec())
    if weights is not None:
        for layer in model.layers:
            layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
    watch.stage("training")
    state = run_epochs(model, recipe, train, val, state, keep, watch)
    model.set_weights(state.best)
    model.trainable = True
    return model, state


def _start_from_probe(model: Any, recipe: Recipe, train: Examples, val: Examples) -> Checkpoint:
    """The probe becomes the model's last layer; the state in which it then is."""
    began, keras = time.monotonic(), load_keras()
    trunk = keras.Model(model.inputs[0], model.get_layer("pooled").output)
    spec = recipe.architecture.input_spec()
    views = [predict(trunk, flip(train.images, *signs), spec) for signs in FLIPS[recipe.flips]]
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
