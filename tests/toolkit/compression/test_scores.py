"""Taylor is the slope of the loss along a channel, wherever that is read; L1 follows the filters' size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from device_agent.contract.manifest import InputSpec
from toolkit.compression.channels import tie
from toolkit.compression.graph import read_graph
from toolkit.compression.scores import l1, taylor
from toolkit.models.architecture import Architecture

pytestmark = pytest.mark.slow
IMAGES = np.random.default_rng(0).uniform(-1, 1, (4, 16, 16, 3)).astype(np.float32)
TARGETS = np.eye(3, dtype=np.float32)[[0, 1, 2, 1]]


def _model() -> Any:
    """A residual block of 4 channels with an expansion to 6."""
    from toolkit.framework import load_keras

    keras = load_keras()
    keras.utils.set_random_seed(1)
    layers = keras.layers
    image = keras.Input((16, 16, 3))
    stem = layers.Conv2D(4, 3, name="stem")(image)
    wide = layers.ReLU()(layers.BatchNormalization(name="norm")(layers.Conv2D(6, 1, name="expand")(stem)))
    joined = layers.Add()([stem, layers.Conv2D(4, 1, name="project")(wide)])
    pooled = layers.GlobalAveragePooling2D(name="pooled")(joined)
    return keras.Model(image, layers.Dense(3, name="logits")(pooled))


def _loss(targets: Any, logits: Any) -> Any:
    import tensorflow as tf

    return tf.nn.softmax_cross_entropy_with_logits(targets, logits)


def _loss_with(model: Any, readers: tuple[str, ...], channel: int, scale: float) -> float:
    """The loss when a channel is `scale` times what it is wherever it is read."""
    kept = {name: model.get_layer(name).kernel.numpy() for name in readers}
    for name, kernel in kept.items():
        scaled = kernel.copy()
        scaled[..., channel, :] *= scale
        model.get_layer(name).kernel.assign(scaled)
    value = float(np.mean(_loss(TARGETS, model(IMAGES, training=False))))
    for name, kernel in kept.items():
        model.get_layer(name).kernel.assign(kernel)
    return value


def test_taylor_is_the_slope_along_each_channel() -> None:
    model = _model()
    channels = tie(read_graph(model))
    scores = taylor(model, channels, [(IMAGES, TARGETS)], _loss)
    assert set(scores) == {"stem", "expand"}
    for name, found in scores.items():
        readers = channels.groups[name].takers
        step = 1e-2
        slopes = [
            abs(_loss_with(model, readers, at, 1 + step) - _loss_with(model, readers, at, 1 - step)) / (2 * step)
            for at in range(len(found))
        ]
        assert max(slopes) > 1e-3 and np.std(slopes) > 1e-4, "channels differ"
        assert found == pytest.approx(slopes, abs=2e-4)


def test_taylor_is_the_mean_over_batches() -> None:
    model = _model()
    channels = tie(read_graph(model))
    parts = [taylor(model, channels, [(IMAGES[at], TARGETS[at])], _loss)["expand"] for at in (np.s_[:2], np.s_[2:])]
    both = taylor(model, channels, [(IMAGES[:2], TARGETS[:2]), (IMAGES[2:], TARGETS[2:])], _loss)["expand"]
    assert both == pytest.approx(np.mean(parts, axis=0), rel=1e-4)


def test_l1_follows_the_filters() -> None:
    model = _model()
    kernel = model.get_layer("expand").kernel.numpy()
    kernel[..., 2] = 0
    kernel[..., 4] *= 10
    model.get_layer("expand").kernel.assign(kernel)
    found = l1(model, tie(read_graph(model)))["expand"]
    assert found.argmin() == 2 and found[2] == 0 and found.argmax() == 4
    assert found.mean() == pytest.approx(1)


def test_adopted_statistics_are_those_of_the_images_and_change_no_answer() -> None:
    from toolkit.compression.statistics import adopt, settle
    from toolkit.models.networks import build, normalizations

    model = build(Architecture(family="mobilenet-v2", alpha=0.1, size=32), 3)
    rng = np.random.default_rng(0)
    for layer in normalizations(model):
        width = layer.gamma.shape[0]
        layer.set_weights(
            [rng.uniform(0.5, 2, width), rng.normal(0, 1, width), rng.normal(0, 1, width), np.ones(width)]
        )
    settle(model, rng.integers(0, 256, (16, 32, 32, 3), np.uint8), InputSpec(height=32, width=32))
    images = rng.uniform(20, 235, (48, 1, 1, 3)) + rng.normal(0, 20, (48, 32, 32, 3))
    images = np.clip(images, 0, 255).astype(np.uint8)
    spec = InputSpec(height=32, width=32)
    shown = images.astype(np.float32) / 127.5 - 1
    before = np.asarray(model(shown))
    old = [weight.copy() for weight in model.get_weights()]
    adopt(model, images, spec)
    after = np.asarray(model(shown))
    assert before.std(axis=0).min() > 1e-4
    assert np.allclose(before, after, atol=1e-3 * np.abs(before).max())
    assert any(not np.allclose(one, other) for one, other in zip(old, model.get_weights(), strict=True))
    adopted = [layer.moving_mean.numpy() for layer in normalizations(model)]
    settle(model, images, spec)
    for mean, layer in zip(adopted, normalizations(model), strict=True):
        assert np.allclose(mean, layer.moving_mean.numpy(), atol=2e-2 * (1 + np.abs(mean).max()))
