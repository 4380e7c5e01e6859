"""The training loop: epochs over images, each one repeatable from the seed and its number alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from device_agent.preprocess import table
from toolkit.models.answers import compile_answers, predict
from toolkit.training.checkpoint import Checkpoint, Epoch
from toolkit.training.devices import Devices
from toolkit.training.examples import Examples, batches, steps_of
from toolkit.training.extra import Extra
from toolkit.training.health import (
    PROBED_IMAGES,
    Activations,
    LayerHealth,
    alarms,
    first_not_finite,
    gradient_health,
    merged,
    sampled,
)
from toolkit.training.judgement import Judge
from toolkit.training.losses import make_loss
from toolkit.training.recipe import Recipe
from toolkit.training.schedule import plateaus, rate
from toolkit.training.selection import best, gains, waited
from toolkit.training.step import Batch, Slope, Step
from toolkit.training.tracking import Tracking, figures_of, kernels
from toolkit.training.watch import Unwatched as Unwatched
from toolkit.training.watch import Watch

Save = Callable[[Checkpoint], None]
HISTOGRAMS_EVERY = 10  # epochs
Rates = Callable[[int], float]


class Surroundings(NamedTuple):
    """What a training has around it: devices, who saves its states, who watches, who is told the figures, and who gives
    it extra targets."""

    devices: Devices
    save: Save
    watch: Watch
    tracking: Tracking
    extra: Extra | None = None


def run_epochs(
    model: Any, recipe: Recipe, judge: Judge, train: Examples, val: Examples, state: Checkpoint, around: Surroundings
) -> Checkpoint:
    """The state after the last epoch, or after `patience` epochs without gain; it is saved after each one.

    Raises:
        BadInput: the loss is no longer a number; the sentence says where that began.
        NotWritable: the checkpoint cannot be written.
        Unreachable: another machine of the training is gone.
    """
    if state.next_epoch > recipe.epochs:
        return state
    devices, steps = around.devices, steps_of(train, recipe)
    step = Step(model, recipe, loss_of(recipe, judge, train), devices, around.extra)
    answer, activations = compile_answers(model), Activations(model)
    restore(model, step, state, around.extra)
    for epoch in range(state.next_epoch, recipe.epochs + 1):
        if waited(state.history, recipe.stop_on) >= recipe.patience:
            break
        began = time.monotonic()
        drops = _drops(state, recipe)

        def rates(at: int, first: int = (epoch - 1) * steps, drops: int = drops) -> float:
            whole = recipe.epochs * steps
            warm_up = min(2 * steps, whole // 5)
            return rate(first + at, steps=whole, warm_up=warm_up, peak=recipe.lr, shape=recipe.schedule, drops=drops)

        loss, norms = _train_epoch(model, step, recipe, judge, train, rates, epoch, around)
        with step.average.swapped() if step.average is not None else nullcontext():
            logits = predict(model, val.images, recipe.architecture.input_spec(), answer=answer)
            row = judged(judge, logits, val, epoch=epoch, loss=loss, lr=rates(steps - 1), began=began)
            row = msgspec.structs.replace(row, gradient_norm=_typical(norms))
            state.history.append(row)
            if best(state.history, recipe.stop_on) is row:
                state.best = model.get_weights()
        layers = merged(gradient_health(epoch, step.layers, norms), activations.health(epoch, _probed(recipe, train)))
        warnings = _note_health(state, layers)
        keep(model, step, state, around.extra)
        around.save(state)
        around.watch.epoch(row, recipe.epochs)
        for text in warnings:
            around.watch.warn(text)
        seldom = epoch in (1, recipe.epochs) or epoch % HISTOGRAMS_EVERY == 0
        around.tracking.note(epoch, figures_of(row, layers, len(warnings)), kernels(model) if seldom else {})
    return state


def judged(
    judge: Judge, logits: NDArray[np.floating], val: Examples, *, epoch: int, loss: float, lr: float, began: float
) -> Epoch:
    """The line of history for a model that gives `logits` (n, classes) for the validation images.

    Raises:
        BadInput: logits that are not finite.
    """
    if not np.isfinite(logits).all():
        raise BadInput(f"training diverged in epoch {epoch}: the answers to validation images are not finite")
    figures = judge.figures(logits, val.labels, val.marks)
    return Epoch(
        epoch=epoch,
        loss=loss,
        val_loss=figures.loss,
        val_accuracy=figures.accuracy,
        val_macro_f1=figures.macro_f1,
        rate=lr,
        seconds=round(time.monotonic() - began, 2),
        val_balanced_accuracy=figures.balanced_accuracy,
        val_calibrated_loss=figures.calibrated_loss,
        val_defect_recall=figures.defect_recall,
        val_defect_balanced_accuracy=figures.defect_balanced_accuracy,
    )


def keep(model: Any, step: Step, state: Checkpoint, extra: Extra | None) -> None:
    """Put into the state what a training needs to go on bit for bit."""
    state.weights = model.get_weights()
    state.optimizer = [variable.numpy() for variable in step.optimizer.variables]
    state.average = step.average.state() if step.average is not None else []
    state.extra = [np.asarray(variable) for variable in extra.variables] if extra is not None else []
    state.notes["scale"] = [step.scale.value, step.scale.calm]


def restore(model: Any, step: Step, state: Checkpoint, extra: Extra | None) -> None:
    """Go on from a state; the first one has the model's weights only."""
    model.set_weights(state.weights)
    learnt = extra.variables if extra is not None else []
    for variables, values in ((step.optimizer.variables, state.optimizer), (learnt, state.extra)):
        for variable, value in zip(variables, values, strict=bool(values)):
            variable.assign(value)
    if step.average is not None:
        step.average.restore(state.average)
    if "scale" in state.notes:
        step.scale.value, step.scale.calm = state.notes["scale"]


def loss_of(recipe: Recipe, judge: Judge, train: Examples) -> Callable[[Any, Any], Any]:
    """The loss of a recipe on these images: of targets and logits (b, classes), (b,)."""
    marks = train.marks if judge.task == "labels" else None
    counts = np.bincount(train.labels, minlength=len(judge.roles)) if marks is None else marks.sum(axis=0)
    return make_loss(recipe, counts, judge.roles, images=len(train.labels))


def _drops(state: Checkpoint, recipe: Recipe) -> int:
    """How often a rate on a plateau has fallen: after half the patience without gain."""
    return plateaus(gains(state.history, recipe.stop_on), max(1, recipe.patience // 2))


def _train_epoch(
    model: Any,
    step: Step,
    recipe: Recipe,
    judge: Judge,
    train: Examples,
    rates: Rates,
    epoch: int,
    around: Surroundings,
) -> tuple[float, list[NDArray[np.floating]]]:
    """Mean loss of one epoch, and the gradient norms of some of its steps."""
    _reseed(model, recipe.seed, epoch)
    steps, total = steps_of(train, recipe), 0.0
    norms: list[NDArray[np.floating]] = []
    for at, batch in enumerate(batches(train, recipe, judge, epoch, around.extra)):
        slope = step.slope(batch)
        if slope.finite:
            step.follow(slope, rates(at))
        passed_over = step.scale.after(overflow=not slope.finite)
        if not slope.finite and not (passed_over and np.isfinite(slope.loss)):
            raise BadInput(_diverged(model, step, recipe, batch, slope, epoch, at))
        total += slope.loss
        if slope.finite and (at % sampled(steps) == 0 or not norms):
            norms.append(slope.norms)
        around.watch.step(epoch, at + 1, steps, recipe.epochs)
    return total / steps, norms or [np.zeros(len(step.layers))]


def _diverged(model: Any, step: Step, recipe: Recipe, batch: Batch, slope: Slope, epoch: int, at: int) -> str:
    what = f"the loss is {slope.loss}" if not np.isfinite(slope.loss) else "a gradient is not finite"
    origin = first_not_finite(model, batch.images, step.layers, slope.norms)
    kept = f"; the state after epoch {epoch - 1} is kept" if epoch > 1 or recipe.weights else ""
    return (
        f"training diverged in epoch {epoch}, step {at + 1}: {what}; first not finite: {origin}{kept}; "
        f"try a --lr under {recipe.lr:g}"
    )


def _note_health(state: Checkpoint, layers: list[LayerHealth]) -> list[str]:
    """Add an epoch to the notes; what is wrong with it."""
    rows = [*msgspec.convert(state.notes.get("health", []), list[LayerHealth]), *layers]
    state.notes["health"] = msgspec.to_builtins(rows)
    found = alarms(rows)
    state.notes["warnings"] = [*state.notes.get("warnings", []), *found]
    return found


def _probed(recipe: Recipe, train: Examples) -> NDArray[np.float32]:
    """Some training images as the model takes them, the same after every epoch."""
    some = np.random.default_rng(recipe.seed).permutation(len(train.labels))[:PROBED_IMAGES]
    return np.asarray(table(recipe.architecture.input_spec())[train.images[np.sort(some)]], np.float32)


def _typical(norms: list[NDArray[np.floating]]) -> float:
    """The median over steps of the length of the whole gradient."""
    return float(np.median(np.sqrt(np.square(np.asarray(norms, np.float64)).sum(axis=1))))


def _reseed(model: Any, seed: int, epoch: int) -> None:
    for layer in model._flatten_layers(include_self=False):
        if getattr(layer, "seed_generator", None) is not None:
            layer.seed_generator.state.assign(np.array([seed, epoch], np.uint32))
