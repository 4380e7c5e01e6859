"""Quantization-aware training: a model whose own float answers are its teacher learns to give them when it is rounded.

Kernels and activations are rounded in the forward pass as int8 will round them, gradients pass as if they were not
(Jacob et al. 2018, Quantization and training of neural networks for efficient integer-arithmetic-only inference).
Normalisation stays as it was learnt: a kernel's scale is one of its channel, so that folding it in later does not
change what is rounded. What is learnt is to repeat the float model, with no label in it: whatever it got right or wrong
stays, and an artifact that passes its gate afterwards still is what was trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.calibration import tensors
from converters.shared.activations import Statistics, least_squares
from device_agent.contract.manifest import InputSpec
from device_agent.contract.optional import require
from device_agent.preprocess import table

BATCH = 32
RATE = 1e-4
"""Peak of the learning rate, which falls to nothing by half a cosine."""
_KERNELS = ("Conv2D", "DepthwiseConv2D", "Dense")
_PASSES = ("InputLayer", "Dropout", "Flatten", "Reshape", "Identity", "ZeroPadding2D")
_FUSED = ("BatchNormalization", "ReLU", "Activation")
Ranges = dict[str, tuple[float, float]]


def fine_tune(
    model: Any,
    images: NDArray[np.uint8],
    calibration: NDArray[np.uint8],
    spec: InputSpec,
    *,
    epochs: int,
    rounded: bool = True,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Any:
    """A Keras model of the same form that repeats the answers of `model` when it is quantized.

    Args:
        model: ends in logits; its weights stay.
        images: (n, h, w, c) uint8 fitted to `spec`, to learn on.
        calibration: images (n, h, w, c) uint8 that the ranges of the activations are taken from.
        spec: how an image becomes the model's input.
        epochs: passes over `images`.
        rounded: False trains the same number of steps without rounding, the control.
        seed: of the order of the images.
        progress: is told each epoch with its mean loss, a share of the variance of the logits.
    """
    keras, tf = require("keras", extra="toolkit"), require("tensorflow", extra="toolkit")
    pupil = _clone(keras, tf, model, _ranges(keras, model, calibration, spec) if rounded else {})
    values, rng = table(spec), np.random.default_rng(seed)
    starts = range(0, len(images), BATCH)
    wanted = np.concatenate([np.asarray(model(values[images[at : at + BATCH]], training=False)) for at in starts])
    rate = keras.optimizers.schedules.CosineDecay(RATE, epochs * len(starts))
    optimizer = keras.optimizers.Adam(rate)
    optimizer.build(pupil.trainable_variables)
    step = _step(tf, pupil, optimizer, float(wanted.var()), rounded=rounded)
    for epoch in range(1, epochs + 1):
        losses = [
            float(step(tf.constant(values[images[rows]]), tf.constant(wanted[rows])))
            for rows in _batches(rng.permutation(len(images)))
        ]
        if progress is not None:
            progress(f"epoch {epoch}/{epochs}, loss {np.mean(losses):.5f}")
    taught = keras.models.clone_model(model)
    for layer in model.layers:
        taught.get_layer(layer.name).set_weights(pupil.get_layer(layer.name).get_weights())
    return taught


def _batches(order: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    return (order[at : at + BATCH] for at in range(0, len(order), BATCH))


def _step(tf: Any, pupil: Any, optimizer: Any, variance: float, *, rounded: bool) -> Callable[[Any, Any], Any]:
    variables = pupil.trainable_variables
    axes = {id(layer.kernel): _channel(layer) for layer in pupil.layers if layer.__class__.__name__ in _KERNELS}

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def step(inputs: Any, wanted: Any) -> Any:
        with tf.GradientTape() as tape:
            weights = [
                _through(tf, each, axes[id(each)]) if rounded and id(each) in axes else tf.convert_to_tensor(each)
                for each in variables
            ]
            logits, _ = pupil.stateless_call(weights, pupil.non_trainable_variables, inputs, training=False)
            loss = tf.reduce_mean(tf.square(logits - wanted)) / variance
        optimizer.apply_gradients(zip(tape.gradient(loss, [each.value for each in variables]), variables, strict=True))
        return loss

    return step  # type: ignore[no-any-return]


def _channel(layer: Any) -> list[int] | None:
    """The axes over which kernels share a scale; None for all, as conversion has it for matrix products."""
    return {"Conv2D": [0, 1, 2], "DepthwiseConv2D": [0, 1]}.get(layer.__class__.__name__)


def _through(tf: Any, variable: Any, axes: list[int] | None) -> Any:
    """The kernel as 8 bits hold it, with the gradient of the kernel itself."""
    kernel = tf.convert_to_tensor(variable)
    scale = tf.maximum(tf.reduce_max(tf.abs(kernel), axis=axes, keepdims=True) / 127.0, 1e-12)
    return kernel + tf.stop_gradient(tf.round(kernel / scale) * scale - kernel)


def _clone(keras: Any, tf: Any, model: Any, ranges: Ranges) -> Any:
    """The model with the tensors of `ranges`, by the name of the layer that gives them, rounded to 8 bits."""

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        value = layer(*args, **kwargs)
        if layer.name not in ranges:
            return value
        low, high = ranges[layer.name]

        def rounding(given: Any) -> Any:
            return tf.quantization.fake_quant_with_min_max_args(given, low, high, num_bits=8)

        shape = value.shape
        return keras.layers.Lambda(rounding, output_shape=lambda _: shape, name=f"{layer.name}_rounded")(value)

    made = keras.models.clone_model(model, call_function=call)
    for layer in model.layers:
        made.get_layer(layer.name).set_weights(layer.get_weights())
    return made


def _ranges(keras: Any, model: Any, images: NDArray[np.uint8], spec: InputSpec) -> Ranges:
    """Where the activations lie that an int8 file stores, by the name of the layer that gives them."""
    names = [layer.name for layer in model.layers if _is_stored(layer)]
    looking = keras.Model(model.inputs[0], [model.get_layer(name).output for name in names])
    rng, seen = np.random.default_rng(0), [Statistics() for _ in names]
    for image in tensors(images, spec):
        for statistics, value in zip(seen, keras.tree.flatten(looking(image, training=False)), strict=True):
            statistics.add(np.asarray(value), rng, len(images))
    found = [least_squares(statistics.seen()) for statistics in seen]
    return {name: (min(low, 0.0), max(high, 0.0)) for name, (low, high) in zip(names, found, strict=True) if high > low}


def _is_stored(layer: Any) -> bool:
    """Whether what the layer gives is a tensor of the int8 file: not what the next layer is fused with."""
    if layer.__class__.__name__ in _PASSES:
        return False
    nodes = layer._outbound_nodes
    if len(nodes) != 1 or layer.__class__.__name__ not in (*_KERNELS, "BatchNormalization"):
        return bool(nodes)  # the logits stay: their range is theirs alone
    reader = nodes[0].operation
    fused = reader.__class__.__name__ in _FUSED and not _is_hard(reader)
    return not fused


def _is_hard(layer: Any) -> bool:
    return "hard" in str(layer.get_config().get("activation"))
