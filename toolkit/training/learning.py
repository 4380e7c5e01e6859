"""From examples to a model: the start (drawn weights, or a probe on given ones), then the epochs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.framework import load_keras
from toolkit.models.answers import predict
from toolkit.models.networks import build, normalizations, settle_statistics
from toolkit.training.augment import FLIPS, Images, flip
from toolkit.training.blending import blend
from toolkit.training.checkpoint import Checkpoint, pack, unpack
from toolkit.training.epochs import Surroundings, judged, run_epochs
from toolkit.training.examples import Examples
from toolkit.training.extra import Extra
from toolkit.training.judgement import Judge
from toolkit.training.probe import fit_probe
from toolkit.training.recipe import Recipe
from toolkit.training.sampling import Rows
from toolkit.training.tracking import figures_between, figures_of

STATISTICS_IMAGES = 128
FEATURE_BYTES = 192 * 2**20  # of all views together; the regression needs some times as much


def learn(
    recipe: Recipe,
    judge: Judge,
    train: Examples,
    val: Examples,
    weights: str | None,
    state: Checkpoint | None,
    around: Surroundings,
    extra: Callable[[Any], Extra] | None = None,
) -> tuple[Any, Checkpoint]:
    """The model with the weights that were kept, and how it came to them; it goes on from `state`, if there is one.
    `extra` makes the supplier of further targets for the model.

    Raises:
        BadInput: weights of another network; the training diverged.
        NotFound, NotWritable, Unreachable: no weights, a full disk, another machine gone.
    """
    keras = load_keras()  # first: what imports TensorFlow itself hears its greetings
    import tensorflow as tf

    keras.utils.set_random_seed(recipe.seed)
    tf.config.experimental.enable_op_determinism()
    good = next((place for place, role in enumerate(judge.roles) if role == "good"), None)
    with around.devices.scope():
        model = build(
            recipe.architecture,
            len(judge.roles),
            weights=weights if state is None else None,
            dropout=recipe.dropout,
            task=recipe.task,
            good=good,
        )
        around = around._replace(extra=None if extra is None else extra(model))
    fresh = state is None
    if fresh and around.devices.chief:
        state = _start(model, recipe, judge, train, val, around)
    state = _told(state, around)
    if fresh and state.history:
        around.save(state)
        around.watch.epoch(state.history[0], recipe.epochs)
        around.tracking.note(0, figures_of(state.history[0], [], 0), {})
    around.watch.stage("training")
    with _frozen_statistics(model, frozen=bool(recipe.weights)):
        state = run_epochs(model, recipe, judge, train, val, state, around)
        for row in blend(model, recipe, judge, val, state):
            around.watch.epoch(row, recipe.epochs)
            around.tracking.note(row.epoch, figures_between(row), {})
    model.set_weights(state.best)
    return model, state


def _told(state: Checkpoint | None, around: Surroundings) -> Checkpoint:
    """The chief's state, on every machine."""
    if around.devices.worker.machines == 1 and state is not None:
        return state
    content = pack(state) if around.devices.chief and state is not None else b""
    return unpack(around.devices.told(content), Path("the chief's state"))


@contextmanager
def _frozen_statistics(model: Any, *, frozen: bool) -> Iterator[None]:
    """Fine-tuning a pretrained network leaves its normalisations as they are: their statistics and scales come from
    far more images than there are here."""
    layers = normalizations(model) if frozen else []
    for layer in layers:
        layer.trainable = False
    try:
        yield
    finally:
        for layer in layers:
            layer.trainable = True


def _start(
    model: Any, recipe: Recipe, judge: Judge, train: Examples, val: Examples, around: Surroundings
) -> Checkpoint:
    """The state before the first epoch: a probe on given weights, or drawn ones with settled statistics."""
    if recipe.weights:
        around.watch.stage("probe")
        return _start_from_probe(model, recipe, judge, train, val)
    some = np.random.default_rng(recipe.seed).permutation(len(train.labels))[:STATISTICS_IMAGES]
    settle_statistics(model, train.images[some], recipe.architecture.input_spec())
    return Checkpoint(history=[], weights=model.get_weights(), optimizer=[], best=[])


def _start_from_probe(model: Any, recipe: Recipe, judge: Judge, train: Examples, val: Examples) -> Checkpoint:
    """The probe becomes the model's last layer; the state in which it then is."""
    began, keras = time.monotonic(), load_keras()
    trunk = keras.Model(model.inputs[0], model.get_layer("pooled").output)
    spec, signs = recipe.architecture.input_spec(), FLIPS[recipe.flips]
    most = FEATURE_BYTES // (4 * int(trunk.output_shape[-1]) * len(signs))
    drawn = draw_evenly(train.labels, most, np.random.default_rng(recipe.seed))
    views = [predict(trunk, Mirrored(train.images, drawn, *each), spec) for each in signs]
    marks = None if train.marks is None or judge.task != "labels" else train.marks[drawn]
    kernel, bias = _last_layer(views, train.labels[drawn], marks, train.groups[drawn], recipe, judge)
    model.get_layer("logits").set_weights([kernel, bias])
    logits = views[0].astype(np.float64) @ kernel + bias
    loss = judge.figures(logits, train.labels[drawn], marks).loss
    row = judged(judge, predict(model, val.images, spec), val, epoch=0, loss=loss, lr=0.0, began=began)
    notes = {"probe": {"images": len(drawn), "of": len(train.labels)}}
    weights = model.get_weights()
    return Checkpoint(history=[row], weights=weights, optimizer=[], best=weights, start=weights, notes=notes)


def _last_layer(
    views: list[NDArray[np.floating]],
    labels: NDArray[np.int64],
    marks: NDArray[np.bool_] | None,
    groups: NDArray[np.str_],
    recipe: Recipe,
    judge: Judge,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Kernel (features, classes) and bias (classes,) of the probe; with several labels an image, one probe a mark."""
    if marks is None:
        probe = fit_probe(views, labels, groups, seed=recipe.seed, smote=recipe.smote)
        return probe.kernel, probe.bias
    kernel = np.zeros((views[0].shape[1], len(judge.roles)), np.float32)
    bias = np.zeros(len(judge.roles), np.float32)
    for column in np.flatnonzero(judge.defects):
        probe = fit_probe(views, marks[:, column].astype(np.int64), groups, seed=recipe.seed, smote=recipe.smote)
        kernel[:, column] = probe.kernel[:, 1] - probe.kernel[:, 0]
        bias[column] = probe.bias[1] - probe.bias[0]
    return kernel, bias


def draw_evenly(labels: NDArray[np.integer], most: int, rng: np.random.Generator) -> Rows:
    """Up to `most` of the rows of labels (n,), in ascending order: all of rare classes, of the others equally many.

    >>> draw_evenly(np.array([0, 0, 0, 0, 0, 1]), 3, np.random.default_rng(0)).tolist()[-1]
    5
    """
    if len(labels) <= most:
        return np.arange(len(labels))
    members = sorted((rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)), key=len)
    drawn: list[NDArray[np.integer]] = []
    for place, rows in enumerate(members):
        left = most - sum(map(len, drawn))
        drawn.append(rows[: max(1, left // (len(members) - place))])
    return np.sort(np.concatenate(drawn)).astype(np.int64)


class Mirrored:
    """Some of the images, mirrored when they are read, a slice at a time."""

    def __init__(self, images: Any, chosen: Rows, rows: int, columns: int) -> None:
        self._images, self._chosen, self._signs = images, chosen, (rows, columns)

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, part: slice) -> Images:
        return flip(self._images[self._chosen[part]], *self._signs)
