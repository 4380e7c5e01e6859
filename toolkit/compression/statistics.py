"""Statistics of normalisations before and after a cut."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.manifest import InputSpec
from device_agent.preprocess import table
from toolkit.framework import load_keras
from toolkit.models.networks import normalizations

AT_ONCE = 32


def adopt(model: Any, images: NDArray[np.uint8], spec: InputSpec) -> None:
    """Give every normalisation the statistics that its input has on images (n, h, w, channels) uint8, and change scale
    and offset so that the network answers as before, but for rounding.

    A network that was fine-tuned with frozen statistics, or came with them folded into its kernels, keeps those of
    other images. In training, and when they are settled after a cut, it would then be another network at once.
    """
    import tensorflow as tf

    layers = [layer for layer in normalizations(model) if layer.scale and layer.center]
    if not layers:
        return
    inner = load_keras().Model(model.inputs[0], [layer.input for layer in layers])
    moments = _moments(inner)
    parts = [images[first : first + AT_ONCE] for first in range(0, len(images), AT_ONCE)]
    weights = np.array([len(part) for part in parts]) / len(images)
    found = [moments(tf.constant(table(spec)[part])) for part in parts]
    for at, layer in enumerate(layers):
        mean, square = np.tensordot(weights, [part[at].numpy() for part in found], 1).astype(np.float64)
        _restate(layer, mean, np.maximum(square - np.square(mean), 0.0))


def _moments(inner: Any) -> Callable[[Any], Any]:
    """Mean and mean square of each channel of each output of a model: (2, channels)."""
    import tensorflow as tf

    def moments(images: Any) -> Any:
        maps = inner(images, training=False)
        flat = [tf.reshape(each, (-1, each.shape[-1])) for each in (maps if isinstance(maps, list | tuple) else [maps])]
        return [tf.stack([tf.reduce_mean(each, 0), tf.reduce_mean(tf.square(each), 0)]) for each in flat]

    compiled: Callable[[Any], Any] = tf.function(moments, autograph=False)
    return compiled


def _restate(layer: Any, mean: NDArray[np.float64], variance: NDArray[np.float64]) -> None:
    gamma, beta, old_mean, old_variance = (np.asarray(each, np.float64) for each in layer.get_weights())
    old_spread, spread = np.sqrt(old_variance + layer.epsilon), np.sqrt(variance + layer.epsilon)
    beta = beta + gamma * (mean - old_mean) / old_spread
    gamma = gamma * spread / old_spread
    layer.set_weights([each.astype(np.float32) for each in (gamma, beta, mean, variance)])


def settle(model: Any, images: NDArray[np.uint8], spec: InputSpec) -> None:
    """Take the statistics of every normalisation anew from images (n, h, w, channels) uint8, all layers in one pass;
    for a network that had those of its own images before it was cut."""
    import tensorflow as tf

    layers = normalizations(model)
    momenta = [layer.momentum for layer in layers]
    try:
        for layer in layers:
            layer.momentum = 0.0
        # compiled, it lets go of each map after its last use: a tenth of the memory
        tf.function(lambda maps: model(maps, training=True), autograph=False)(tf.constant(table(spec)[images]))
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum


def thaw(model: Any) -> None:
    """Let every layer learn; a fine-tuning saves its normalisations frozen."""
    for layer in model._flatten_layers(include_self=False):
        layer.trainable = True
