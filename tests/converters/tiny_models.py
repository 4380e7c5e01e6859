"""Small networks whose outputs spread, trained for a minute on textures that are easy to tell apart."""

from __future__ import annotations

from typing import Any

import numpy as np

from device_agent.contract.manifest import InputSpec
from toolkit.models.answers import predict
from toolkit.models.architecture import Architecture
from toolkit.models.networks import build
from toolkit.training.probe import fit_probe

NAMES = ["good", "scratch", "stain"]
SIZE = 64
SPEC = InputSpec(height=SIZE, width=SIZE)
TINTS = np.array([[0.7, 1.2, 0.7], [1.2, 0.7, 0.7], [0.7, 0.7, 1.2]])


def textures(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (count, 64, 64, 3) uint8 and labels (count,): stripes down, stripes across, spots; each with a tint."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % len(NAMES)
    y, x = np.mgrid[:SIZE, :SIZE]
    images = []
    for label in labels:
        down = np.sin(x / rng.uniform(2, 4) + rng.uniform(0, 6))
        across = np.sin(y / rng.uniform(2, 4) + rng.uniform(0, 6))
        wave = (down, across, down * across)[label] * rng.uniform(20, 60)
        tint = TINTS[label] * rng.uniform(0.85, 1.15, 3) * rng.uniform(90, 150)
        images.append(tint + wave[:, :, None] + rng.normal(0, 12, (SIZE, SIZE, 3)))
    return np.clip(images, 0, 255).astype(np.uint8), labels


def tiny(family: str) -> Any:
    """A Keras model of the family at width 0.35 that tells the textures apart."""
    import keras

    keras.utils.set_random_seed(7)
    model = build(Architecture(family=family, alpha=0.35, size=SIZE), len(NAMES))
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.8
    images, labels = textures(384, seed=1)
    model.compile(keras.optimizers.Adam(2e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(images.astype(np.float32) / 127.5 - 1, labels, batch_size=32, epochs=4, verbose=0)
    features = predict(keras.Model(model.input, model.get_layer("pooled").output), images, SPEC)
    head = fit_probe([features], labels, np.arange(len(labels)).astype(str), seed=0)
    model.get_layer("logits").set_weights([head.kernel, head.bias])
    return model
