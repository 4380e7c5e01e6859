"""One step of training in two compiled halves: gradients, and, if these are finite, the change of the weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from toolkit.framework import load_keras
from toolkit.training.averaging import Average
from toolkit.training.devices import Devices
from toolkit.training.extra import Extra
from toolkit.training.fused import fused_normalization, shared_normalization
from toolkit.training.optimizers import make_optimizer
from toolkit.training.precision import Scale, computing_in, half_type
from toolkit.training.recipe import Recipe

MOST_NORM = 1.0  # of the gradient of all weights together; a longer one is shortened to it
Loss = Callable[[Any, Any], Any]


class Batch(NamedTuple):
    """Images (b, h, w, channels) float32 as the model takes them, targets (b, classes) float32, and what a supplier of
    extra targets gave for them."""

    images: NDArray[np.float32]
    targets: NDArray[np.float32]
    given: Mapping[str, NDArray[np.float32]] = {}


class Slope(NamedTuple):
    """The mean loss of a batch, the norm of each variable's gradient before clipping (variables,), and the clipped
    gradients as they lie on the devices."""

    loss: float
    norms: NDArray[np.float32]
    gradients: Any

    @property
    def finite(self) -> bool:
        """Whether the weights may follow it."""
        return bool(np.isfinite(self.loss) and np.isfinite(self.norms).all())


class Step:
    """The compiled halves, and the variables that belong to them: those of the optimizer, the average, the scale.
    `layers` names the layer of each variable, in the order of `Slope.norms`."""

    def __init__(self, model: Any, recipe: Recipe, loss: Loss, devices: Devices, extra: Extra | None = None) -> None:
        self._model, self._recipe, self._loss = model, recipe, loss
        self._devices, self._extra = devices, extra
        self._trunk = _with_features(model) if extra is not None else None
        self._dtype = half_type() if recipe.mixed_precision else "float32"
        self._variables = [*model.trainable_variables, *(extra.variables if extra is not None else [])]
        self.layers = [variable.path.rpartition("/")[0] or variable.path for variable in self._variables]
        self.scale = Scale(self._dtype)
        with devices.scope():
            self.optimizer = make_optimizer(recipe, self._variables)
            self.average = Average(model, recipe.ema) if recipe.ema else None
        self._slope = devices.compiled(self._find)
        self._follow = devices.compiled(self._change)

    def slope(self, batch: Batch) -> Slope:
        """Loss and gradients at the weights as they are."""
        deal = self._devices.deal
        scale = np.full(len(batch.images), self.scale.value, np.float32)
        parts = (deal(batch.images), deal(batch.targets), deal(scale))
        with self._tracing():
            loss, norms, gradients = self._slope(*parts, {name: deal(each) for name, each in batch.given.items()})
        return Slope(float(self._devices.first(loss)), self._devices.first(norms), gradients)

    def follow(self, slope: Slope, learning_rate: float) -> None:
        """Change the weights."""
        self.optimizer.learning_rate.assign(learning_rate)
        self._follow(slope.gradients)

    def _find(self, images: Any, targets: Any, scale: Any, given: Mapping[str, Any]) -> Any:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            losses = self._losses(images, targets, given)
            part = tf.reduce_sum(losses) / self._recipe.batch
            part += sum(self._model.losses) / self._devices.replicas
            scaled = part * scale[0]
        gradients = tape.gradient(scaled, self._variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        gradients = [gradient / scale[0] for gradient in self._devices.total(gradients)]
        norms = tf.stack([tf.norm(gradient) for gradient in gradients])
        # every replica brings the whole gradient, and the optimizer adds them up
        shorter = tf.minimum(1.0, MOST_NORM / tf.norm(norms)) / self._devices.replicas
        return self._devices.total(part), norms, [gradient * shorter for gradient in gradients]

    def _losses(self, images: Any, targets: Any, given: Mapping[str, Any]) -> Any:
        import tensorflow as tf

        if self._extra is None or self._trunk is None:
            return self._loss(targets, tf.cast(self._model(images, training=True), tf.float32))
        logits, features = (tf.cast(each, tf.float32) for each in self._trunk(images, training=True))
        return self._extra.combine(self._loss(targets, logits), given, logits, features)

    def _change(self, gradients: Any) -> Any:
        import tensorflow as tf

        self.optimizer.apply(self._devices.placed(gradients), self._variables)
        if self.average is not None:
            self.average.update()
        return tf.constant(0)

    @contextmanager
    def _tracing(self) -> Iterator[None]:
        """How layers compute in the step that is compiled on the first call."""
        whole = shared_normalization(self._model) if self._devices.replicas > 1 else fused_normalization()
        with whole, computing_in(self._model, self._dtype):
            yield


def _with_features(model: Any) -> Any:
    """Images to logits and to the features before them."""
    return load_keras().Model(model.inputs[0], [model.output, model.get_layer("pooled").output])
