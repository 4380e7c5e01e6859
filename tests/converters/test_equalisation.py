"""Equalisation leaves the function of a network as it is, and the ranges of its kernels balanced."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from converters.equalisation import ROOM, equalise, find_pairs

pytestmark = pytest.mark.slow
SIZE = 16


def network(ceiling: float | None, *, twice: bool = False) -> Any:
    """Convolution, depthwise convolution, convolution with normalisations and rectifiers; then logits. The first
    kernel's channels have ranges up to 1000 times apart. With `twice`, somebody else reads the first rectifier."""
    import keras

    layers, rng = keras.layers, np.random.default_rng(0)
    image = keras.Input((SIZE, SIZE, 3))
    value = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="first")(image)
    value = layers.BatchNormalization(name="first_bn")(value)
    first = layers.ReLU(ceiling, name="first_relu")(value)
    value = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="depthwise")(first)
    value = layers.BatchNormalization(name="depthwise_bn")(value)
    value = layers.ReLU(ceiling, name="depthwise_relu")(value)
    value = layers.Conv2D(8, 1, name="project")(value)
    if twice:
        value = layers.Add()([value, first])
    value = layers.GlobalAveragePooling2D()(value)
    model = keras.Model(image, layers.Dense(3, name="logits")(value))
    for layer in model.layers:
        layer.set_weights([_drawn(rng, each.shape, layer) for each in layer.weights])
    kernel = model.get_layer("first").get_weights()[0]
    model.get_layer("first").set_weights([kernel * np.geomspace(0.03, 30, 8).astype(np.float32)])
    return model


def _drawn(rng: np.random.Generator, shape: tuple[int, ...], layer: Any) -> np.ndarray:
    one = layer.__class__.__name__ == "BatchNormalization"
    return np.asarray(rng.uniform(0.5, 1.5, shape) if one else rng.normal(0, 0.3, shape), np.float32)


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(1).uniform(-1, 1, (24, 1, SIZE, SIZE, 3)).astype(np.float32)


def _logits(model: Any, images: np.ndarray) -> np.ndarray:
    return np.asarray(model(images[:, 0], training=False))


def _ranges(model: Any) -> np.ndarray:
    bn = model.get_layer("first_bn")
    scale = np.abs(bn.gamma) / np.sqrt(np.asarray(bn.moving_variance) + bn.epsilon)
    return np.asarray(np.abs(model.get_layer("first").get_weights()[0]).max(axis=(0, 1, 2)) * scale)


def test_the_function_stays_and_the_ranges_meet(images: np.ndarray) -> None:
    model = network(None)
    assert [(pair.maker, pair.reader) for pair in find_pairs(model)] == [
        ("first", "depthwise"),
        ("depthwise", "project"),
        ("project", "logits"),
    ]
    made, before = equalise(model, lambda: iter(images)), _logits(model, images)
    assert before.std(axis=0).min() > 0.05, "outputs that do not spread prove nothing"
    np.testing.assert_allclose(_logits(made, images), before, rtol=1e-4, atol=1e-4 * before.std())
    assert np.ptp(np.log(_ranges(model))) > 5
    assert np.ptp(np.log(_ranges(made))) < 0.7 * np.ptp(np.log(_ranges(model)))
    taken = np.abs(made.get_layer("depthwise").get_weights()[0]).max(axis=(0, 1, 3))
    bn = made.get_layer("depthwise_bn")
    taken = taken * np.abs(bn.gamma) / np.sqrt(np.asarray(bn.moving_variance) + bn.epsilon)
    np.testing.assert_allclose(_ranges(made), taken, rtol=0.02)


def test_behind_a_ceiling_only_channels_with_room_are_moved(images: np.ndarray) -> None:
    import keras

    model = network(6.0)
    looking = keras.Model(model.input, model.get_layer("first_relu").output)
    full = _top(looking, images) > 6 * ROOM
    assert full.any() and not full.all(), "the network has channels of both kinds"
    model = network(6.0)
    made, before = equalise(model, lambda: iter(images)), _logits(model, images)
    np.testing.assert_allclose(_logits(made, images), before, rtol=1e-4, atol=1e-4 * before.std())
    moved = ~np.isclose(made.get_layer("first_bn").get_weights()[1], model.get_layer("first_bn").get_weights()[1])
    assert moved[~full].any() and not moved[full].any()
    looking = keras.Model(made.input, made.get_layer("first_relu").output)
    assert (_top(looking, images)[~full] <= 6 * ROOM * 1.001).all()


def _top(model: Any, images: np.ndarray) -> np.ndarray:
    return np.asarray(_logits(model, images)).max(axis=(0, 1, 2))


def test_what_two_layers_read_is_left_alone() -> None:
    assert [(pair.maker, pair.reader) for pair in find_pairs(network(None, twice=True))] == [("depthwise", "project")]


def test_a_network_without_pairs_is_the_same_object(images: np.ndarray) -> None:
    import keras

    image = keras.Input((SIZE, SIZE, 3))
    model = keras.Model(image, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(image)))
    assert equalise(model, lambda: iter(images)) is model
