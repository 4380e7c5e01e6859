"""Fine-tuning of a cut network, and of its parent as the control: the epochs of a training, from given weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.preprocess import table
from toolkit.compression.channels import Channels
from toolkit.compression.scores import Batch, Method, Scores, l1, taylor
from toolkit.models.answers import predict
from toolkit.training.checkpoint import Checkpoint, Epoch, load_checkpoint, save_checkpoint
from toolkit.training.devices import open_devices
from toolkit.training.epochs import Surroundings, judged, loss_of, run_epochs
from toolkit.training.examples import Examples
from toolkit.training.extra import Extra
from toolkit.training.judgement import Judge
from toolkit.training.recipe import RATES, Recipe
from toolkit.training.tracking import Tracking
from toolkit.training.watch import Watch

SCORED = 8  # images a gradient: of fewer the slopes of a network that is trained to the end do not cancel out
SHOWN = 128  # images that the statistics of a network are taken from


class Ground(NamedTuple):
    """What every fine-tuning of a pruning shares."""

    recipe: Recipe
    judge: Judge
    train: Examples
    val: Examples
    watch: Watch
    extra: Extra | None = None


def tuning_recipe(recipe: Recipe, *, epochs: int, lr: float, seed: int) -> Recipe:
    """The recipe of a fine-tuning after a cut: the parent's images, variations and loss; every epoch is done, the rate
    falls to nothing, and the last weights are kept, so that nothing is chosen on validation."""
    found = msgspec.structs.replace(
        recipe, weights="", weights_sha256="", smote=False, epochs=epochs, lr=lr * RATES[recipe.optimizer],
        patience=10_000, schedule="cosine", ema=0.0, distil=None, seed=seed,
    )  # fmt: skip
    found.check()
    return found


def tune(model: Any, ground: Ground, path: Path) -> list[Epoch]:
    """Train the model in place for the recipe's epochs, a line of history each; a tuning that was interrupted goes on
    from the file `path`.

    Raises:
        BadInput: it diverged.
        NotWritable: the disk is full, read-only or forbids it.
    """
    state = load_checkpoint(path) or Checkpoint(history=[], weights=model.get_weights(), optimizer=[], best=[])
    around = Surroundings(
        open_devices("one"), lambda each: save_checkpoint(path, each), ground.watch,
        Tracking({}, ground.watch.warn), ground.extra,
    )  # fmt: skip
    state = run_epochs(model, ground.recipe, ground.judge, ground.train, ground.val, state, around)
    model.set_weights(state.weights)
    return state.history


def first_line(model: Any, ground: Ground) -> Epoch:
    """The line of history, as epoch 0, of a model as it is."""
    logits = predict(model, ground.val.images, ground.recipe.architecture.input_spec())
    return judged(ground.judge, logits, ground.val, epoch=0, loss=0.0, lr=0.0, began=0.0)


def shown(ground: Ground) -> NDArray[np.uint8]:
    """Some training images, the same ones every time, that statistics are taken from."""
    some = np.random.default_rng(ground.recipe.seed).permutation(len(ground.train.labels))[:SHOWN]
    return np.asarray(ground.train.images[np.sort(some)])


def score(model: Any, channels: Channels, ground: Ground, method: Method) -> Scores:
    """The scores of every group by a method, on the training images.

    Raises:
        BadInput: gradients that are not finite.
    """
    if method == "l1":
        return l1(model, channels)
    return taylor(model, channels, _batches(ground), loss_of(ground.recipe, ground.judge, ground.train))


def _batches(ground: Ground) -> Iterator[Batch]:
    """All training images as they are, in small batches; one that would not be full is left out."""
    values = table(ground.recipe.architecture.input_spec())
    order = np.random.default_rng(ground.recipe.seed).permutation(len(ground.train.labels))
    size = min(SCORED, len(order))
    for first in range(0, len(order) - size + 1, size):
        at = np.sort(order[first : first + size])
        yield np.asarray(values[ground.train.images[at]], np.float32), ground.train.targets(at, ground.judge)
