"""Layers that were spoilt on purpose are found by name; those that are well are not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from toolkit.framework import load_keras
from toolkit.training.health import Activations, alarms, first_not_finite

pytestmark = pytest.mark.slow
LAYERS = ["one", "two", "logits"]


@pytest.fixture
def model() -> Any:
    keras = load_keras()
    keras.utils.set_random_seed(0)
    layers = keras.layers
    image = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(8, 3, name="one")(image)
    x = layers.ReLU(name="one_relu")(x)
    x = layers.Conv2D(8, 3, activation="relu", name="two")(x)
    x = layers.Conv2D(8, 1, activation="hard_silu", name="three")(x)
    x = layers.GlobalAveragePooling2D(name="pooled")(x)
    gate = layers.Dense(8, activation="sigmoid", name="gate")(x)
    return keras.Model(image, layers.Dense(2, name="logits")(layers.Multiply(name="gated")([x, gate])))


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(32, 8, 8, 3)).astype(np.float32)


def test_a_well_network_raises_no_alarm(model: Any, images: np.ndarray) -> None:
    rows = Activations(model).health(1, images)
    assert [row.layer for row in rows] == ["one_relu", "two", "three"], "gates and linear layers are no activations"
    assert alarms(rows) == [] and all(row.activation_rms for row in rows)


def test_a_dead_relu_is_named(model: Any, images: np.ndarray) -> None:
    kernel, bias = model.get_layer("two").get_weights()
    model.get_layer("two").set_weights([kernel, bias - 1000])
    rows = Activations(model).health(3, images)
    assert alarms(rows)[0].startswith("epoch 3: dead: two (100%")


def test_a_layer_that_explodes_is_named(model: Any, images: np.ndarray) -> None:
    kernel, bias = model.get_layer("three").get_weights()
    model.get_layer("three").set_weights([kernel * 1e5, bias])
    found = alarms(Activations(model).health(1, images))
    assert len(found) == 1 and found[0].startswith("epoch 1: activations explode: three (")


def test_where_numbers_end(model: Any, images: np.ndarray) -> None:
    norms = np.ones(3, np.float32)
    assert first_not_finite(model, images, LAYERS, norms).startswith("the loss, with finite activations")
    norms[:2] = np.nan
    assert first_not_finite(model, images, LAYERS, norms) == "the gradient of layer two", "gradients run backwards"
    kernel, bias = model.get_layer("one").get_weights()
    model.get_layer("one").set_weights([np.full_like(kernel, 3e38), bias])
    assert first_not_finite(model, images, LAYERS, norms) == "the activations of layer one"
    model.get_layer("logits").set_weights([np.full((8, 2), np.nan), np.zeros(2)])
    assert first_not_finite(model, images, LAYERS, norms) == "the weights of layer logits"
