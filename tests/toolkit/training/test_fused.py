"""The fused kernel must be the same normalisation: answers, gradients and moving averages."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest

from toolkit.framework import load_keras
from toolkit.training.fused import fused_normalization

pytestmark = pytest.mark.slow


def test_fused_is_the_same_normalisation() -> None:
    keras = load_keras()
    import tensorflow as tf

    rng = np.random.default_rng(0)
    images = (rng.normal(2, 3, (8, 6, 6, 4))).astype(np.float32)
    found = []
    for context in (nullcontext, fused_normalization):
        layer = keras.layers.BatchNormalization(momentum=0.9)
        layer.build(images.shape)
        layer.set_weights([np.array(values, np.float32) for values in ([1, 2, 3, 4], [0, 1, 0, -1], [0] * 4, [1] * 4)])
        source = tf.Variable(images)
        with tf.GradientTape() as tape, context():
            outputs = layer(source, training=True)
            loss = tf.reduce_sum(outputs * tf.sin(outputs))
        gradients = tape.gradient(loss, [source, *layer.trainable_variables])
        found.append([outputs.numpy(), *(np.asarray(each) for each in gradients), *layer.get_weights()])
    assert np.std(found[0][0]) > 1
    assert np.abs(found[0][1]).max() > 0.1
    for plain, fused in zip(*found, strict=True):
        np.testing.assert_allclose(fused, plain, rtol=1e-3, atol=1e-4)


def test_the_layer_is_itself_again_afterwards() -> None:
    before = load_keras().layers.BatchNormalization.call
    with fused_normalization():
        assert load_keras().layers.BatchNormalization.call is not before
    assert load_keras().layers.BatchNormalization.call is before
