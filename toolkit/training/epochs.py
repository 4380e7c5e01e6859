"""The training loop: epochs over images in memory, each one repeatable from the seed and its number alone."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from device_agent.preprocess import table
from toolkit.evaluation.metrics import balanced_loss, macro_f1
from toolkit.framework import load_keras
from toolkit.models.networks import compile_answers, predict
from toolkit.training.augment import vary
from toolkit.training.checkpoint import Checkpoint, Epoch
from toolkit.training.fused import fused_normalization
from toolkit.training.recipe import Recipe
from toolkit.training.schedule import rate

Save = Callable[[Checkpoint], None]
MOST_WEIGHT = 10.0  # an image of a rare class counts at most so many times an average one


class Examples(NamedTuple):
    """Images (n, h, w, channels) uint8, labels (n,) int64, groups (n,)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    groups: NDArray[np.str_]


class Watch(Protocol):
    """Who wants to see a training go on."""

    def stage(self, text: str) -> None:
        """Something begins: reading, probe, training."""

    def step(self, epoch: int, done: int, steps: int, epochs: int) -> None:
        """Batch `done` of `steps` of an epoch is done."""

    def epoch(self, row: Epoch, epochs: int) -> None:
        """An epoch is done."""


class Unwatched:
    """A Watch that looks away."""

    def stage(self, text: str) -> None:
        """Nothing."""

    def step(self, epoch: int, done: int, steps: int, epochs: int) -> None:
        """Nothing."""

    def epoch(self, row: Epoch, epochs: int) -> None:
        """Nothing."""


def class_weights(labels: NDArray[np.integer], classes: int) -> NDArray[np.float32]:
    """Weight of an image of each class, so that every class counts alike: n / (classes * n_class), at most 10.

    >>> class_weights(np.array([0, 0, 0, 1, 1, 1]), 2).tolist()
    [1.0, 1.0]
    """
    counts = np.bincount(labels, minlength=classes)
    return np.minimum(len(labels) / (classes * np.maximum(counts, 1)), MOST_WEIGHT).astype(np.float32)


def run_epochs(
    model: Any, recipe: Recipe, train: Examples, val: Examples, state: Checkpoint, save: Save, watch: Watch
) -> Checkpoint:
    """The state after the last epoch, or after `patience` epochs without gain; `save` gets it after each one.

    Raises:
        BadInput: the loss is no longer a number.
        NotWritable: the checkpoint cannot be written.
    """
    steps = max(1, math.ceil(len(train.labels) / recipe.batch))
    optimizer = _optimizer(model, recipe)
    step, answer = _make_step(model, optimizer, recipe), compile_answers(model)
    weigh = class_weights(train.labels, model.output_shape[-1])
    if state.weights:
        model.set_weights(state.weights)
    for variable, value in zip(optimizer.variables, state.optimizer, strict=False):
        variable.assign(value)
    for epoch in range(state.next_epoch, recipe.epochs + 1):
        if state.history and epoch - 1 - state.best_epoch.epoch >= recipe.patience:
            break
        began = time.monotonic()

        def learning_rate(at: int, first: int = (epoch - 1) * steps) -> float:
            warm_up = min(2 * steps, recipe.epochs * steps // 5)
            return rate(first + at, steps=recipe.epochs * steps, warm_up=warm_up, peak=recipe.lr)

        loss = _train_epoch(model, step, recipe, train, weigh, learning_rate, epoch, watch)
        logits = predict(model, val.images, recipe.architecture.input_spec(), answer=answer)
        row = judge(logits, val, epoch=epoch, loss=loss, lr=learning_rate(steps - 1), began=began)
        state.history.append(row)
        if state.best_epoch is row:
            state.best = model.get_weights()
        state.weights, state.optimizer = model.get_weights(), [variable.numpy() for variable in optimizer.variables]
        save(state)
        watch.epoch(row, recipe.epochs)
    return state


def judge(logits: NDArray[np.floating], val: Examples, *, epoch: int, loss: float, lr: float, began: float) -> Epoch:
    """The line of history for a model that gives `logits` (n, classes) for the validation images."""
    logits = logits.astype(np.float64)
    return Epoch(
        epoch=epoch,
        loss=loss,
        val_loss=balanced_loss(logits, val.labels),
        val_accuracy=float(np.mean(logits.argmax(axis=1) == val.labels)),
        val_macro_f1=macro_f1(val.labels, logits.argmax(axis=1)),
        rate=lr,
        seconds=round(time.monotonic() - began, 2),
    )


def _train_epoch(
    model: Any,
    step: Callable[..., Any],
    recipe: Recipe,
    train: Examples,
    weigh: NDArray[np.float32],
    learning_rate: Callable[[int], float],
    epoch: int,
    watch: Watch,
) -> float:
    """Mean loss of one epoch. The order, the variations and the dropout depend on the seed and the epoch only."""
    rng = np.random.default_rng([recipe.seed, epoch])
    _reseed(model, recipe.seed, epoch)
    values = table(recipe.architecture.input_spec())
    steps = max(1, math.ceil(len(train.labels) / recipe.batch))
    order = np.concatenate([rng.permutation(len(train.labels)) for _ in range(1 + recipe.batch // len(train.labels))])
    order = np.resize(order, steps * recipe.batch)  # the last batch is filled up from the front
    total = 0.0
    for at in range(steps):
        rows = order[at * recipe.batch : (at + 1) * recipe.batch]
        images = values[vary(train.images[rows], rng, flips=recipe.flips)]
        labels = train.labels[rows]
        loss = float(step(images, labels, weigh[labels], np.float32(learning_rate(at))))
        if not math.isfinite(loss):
            raise BadInput(f"training diverged in epoch {epoch}: the loss is {loss}; try a --lr under {recipe.lr:g}")
        total += loss
        watch.step(epoch, at + 1, steps, recipe.epochs)
    return total / steps


def _optimizer(model: Any, recipe: Recipe) -> Any:
    optimizer = load_keras().optimizers.AdamW(recipe.lr, weight_decay=recipe.decay, global_clipnorm=1.0)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    optimizer.build(model.trainable_variables)
    return optimizer


def _make_step(model: Any, optimizer: Any, recipe: Recipe) -> Callable[..., Any]:
    """One step of training, compiled: (images float32, labels, weights, learning rate) to the batch's mean loss."""
    import tensorflow as tf

    classes = model.output_shape[-1]

    def step(images: Any, labels: Any, weights: Any, learning_rate: Any) -> Any:
        optimizer.learning_rate.assign(learning_rate)
        wanted = tf.one_hot(labels, classes) * (1 - recipe.smoothing) + recipe.smoothing / classes
        with tf.GradientTape() as tape, fused_normalization():
            losses = tf.nn.softmax_cross_entropy_with_logits(wanted, model(images, training=True))
            loss = tf.reduce_mean(losses * weights)
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return loss

    shape = (recipe.batch, *model.input_shape[1:])
    signature = [tf.TensorSpec(shape), tf.TensorSpec(shape[:1], tf.int64), tf.TensorSpec(shape[:1]), tf.TensorSpec(())]
    compiled: Callable[..., Any] = tf.function(step, input_signature=signature, autograph=False)
    return compiled


def _reseed(model: Any, seed: int, epoch: int) -> None:
    for layer in model.layers:
        if getattr(layer, "seed_generator", None) is not None:
            layer.seed_generator.state.assign(np.array([seed, epoch], np.uint32))
