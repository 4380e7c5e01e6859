"""Quantization-aware training: a model learns to give its own float answers when it is rounded.

Kernels and activations are rounded in the forward pass as int8 will round them, gradients pass as if they were not
(Jacob et al. 2018, Quantization and training of neural networks for efficient integer-arithmetic-only inference).
The statistics of normalisations stay: a kernel's scale is one of its channel, so that folding them in later does not
change what is rounded. The model's own answers are the teacher, no label is seen: an artifact that passes its gate
afterwards still is what was trained. The kernels that come back are rounded, so that whoever quantizes them on another
grid corrects the biases for the difference alone.

Not simulated: the common scale of a residual sum, the gates within a hard activation, kernels of layers other than
convolutions and matrix products.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.activations import Seen, Statistics, least_squares
from converters.calibration import tensors
from converters.equalisation import is_depthwise, normalisation_behind
from device_agent.contract.manifest import InputSpec
from device_agent.contract.optional import require
from device_agent.preprocess import table

BATCH = 32
RATE = 3e-5
"""Peak of the learning rate, which falls to nothing by half a cosine; more undoes at first what the start has right."""
_KERNELS = ("Conv2D", "DepthwiseConv2D", "Dense")
_PASSES = ("InputLayer", "Dropout", "Flatten", "Reshape", "Identity", "ZeroPadding2D")
_INPUT = ""
_FUSED = ("BatchNormalization", "ReLU", "Activation")
Ranges = dict[str, tuple[float, float]]


def fine_tune(
    model: Any,
    images: NDArray[np.uint8],
    calibration: NDArray[np.uint8],
    spec: InputSpec,
    *,
    epochs: int,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Any:
    """A Keras model of the same form that repeats the answers of `model` when it is quantized; its kernels are rounded.

    Args:
        model: ends in logits; its weights stay.
        images: (n, h, w, c) uint8 fitted to `spec`, to learn on.
        calibration: images (n, h, w, c) uint8 that the ranges of the activations are taken from.
        spec: how an image becomes the model's input.
        epochs: passes over `images`; 0 rounds and corrects biases and learns nothing, the control.
        seed: of the order of the images.
        progress: is told each epoch with its mean loss, a share of the variance of the logits.
    """
    keras, tf = require("keras", extra="toolkit"), require("tensorflow", extra="toolkit")
    seen = _observe(keras, model, calibration, spec)
    pupil = _clone(keras, tf, model, {name: _range(each) for name, each in seen.items() if each.high > each.low})
    for layer in pupil.layers:
        _take_back(layer, seen)
    if epochs:
        _learn(keras, tf, model, pupil, images, spec, epochs, seed, progress)
    taught = keras.models.clone_model(model)
    for layer in _weighted(taught):
        learnt = pupil.get_layer(layer.name).get_weights()
        if layer.__class__.__name__ in _KERNELS:
            learnt[0] = _rounded(layer, learnt[0])
        layer.set_weights(learnt)
    return taught


def _learn(
    keras: Any,
    tf: Any,
    model: Any,
    pupil: Any,
    images: NDArray[np.uint8],
    spec: InputSpec,
    epochs: int,
    seed: int,
    progress: Callable[[str], None] | None,
) -> None:
    values, rng = table(spec), np.random.default_rng(seed)
    starts = range(0, len(images), BATCH)
    wanted = np.concatenate([np.asarray(model(values[images[at : at + BATCH]], training=False)) for at in starts])
    rate = keras.optimizers.schedules.CosineDecay(RATE, epochs * len(starts))
    optimizer = keras.optimizers.Adam(rate)
    optimizer.build(pupil.trainable_variables)
    step = _step(tf, pupil, optimizer, float(wanted.var()))
    for epoch in range(1, epochs + 1):
        losses = [
            float(step(tf.constant(values[images[rows]]), tf.constant(wanted[rows])))
            for rows in _batches(rng.permutation(len(images)))
        ]
        if progress is not None:
            progress(f"epoch {epoch}/{epochs}, loss {np.mean(losses):.5f}")


def obstacle(model: Any) -> str:
    """Why the model cannot be trained so, empty if it can: the first layer that is a model, is used more than once or
    gives several tensors."""
    for layer in model.layers:
        if hasattr(layer, "layers"):
            return f"{layer.name} is a model of its own"
        if len(layer._inbound_nodes) > 1:
            return f"{layer.name} is used more than once"
        if isinstance(layer.output, (list, tuple)):
            return f"{layer.name} gives several tensors"
    return ""


def _weighted(model: Any) -> list[Any]:
    return [layer for layer in model.layers if layer.weights]


def _batches(order: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    return (order[at : at + BATCH] for at in range(0, len(order), BATCH))


def _step(tf: Any, pupil: Any, optimizer: Any, variance: float) -> Callable[[Any, Any], Any]:
    variables = pupil.trainable_variables
    axes = {id(layer.kernel): _channel(layer) for layer in pupil.layers if layer.__class__.__name__ in _KERNELS}

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def step(inputs: Any, wanted: Any) -> Any:
        with tf.GradientTape() as tape:
            weights = [
                _through(tf, each, axes[id(each)]) if id(each) in axes else tf.convert_to_tensor(each)
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
    made.trainable = True  # a kernel that training left alone is rounded all the same
    for layer in _weighted(model):
        made.get_layer(layer.name).set_weights(layer.get_weights())
    return made


def _observe(keras: Any, model: Any, images: NDArray[np.uint8], spec: InputSpec) -> dict[str, Seen]:
    """The tensors that an int8 file stores, by the name of the layer that gives them; the model's input has none."""
    names = [layer.name for layer in model.layers if _is_stored(layer)]
    looking = keras.Model(model.inputs[0], [model.get_layer(name).output for name in names])
    rng, seen = np.random.default_rng(0), [Statistics() for _ in (_INPUT, *names)]
    for image in tensors(images, spec):
        values = [image, *keras.tree.flatten(looking(image, training=False))]
        for statistics, value in zip(seen, values, strict=True):
            statistics.add(np.asarray(value), rng, len(images))
    return {name: statistics.seen() for name, statistics in zip((_INPUT, *names), seen, strict=True)}


def _range(seen: Seen) -> tuple[float, float]:
    low, high = least_squares(seen)
    return min(low, 0.0), max(high, 0.0)


def _take_back(layer: Any, seen: dict[str, Seen]) -> None:
    """Begin with what rounding the kernel takes from the mean of each output given back, as `shared.exact` has it."""
    if layer.__class__.__name__ not in _KERNELS or (source := _source(layer)) not in seen:
        return
    kernel = layer.get_weights()[0]
    error = kernel.astype(np.float64) - _rounded(layer, kernel)
    lost = error if error.ndim == 2 else error.sum(axis=(0, 1))
    means = seen[source].means
    if not is_depthwise(layer) and len(lost) != len(means):
        return  # in groups
    shift = (lost * means[:, None]).ravel() if is_depthwise(layer) else means @ lost
    behind = normalisation_behind(layer)
    if layer.use_bias:
        layer.bias.assign_add(shift.astype(np.float32))
    elif behind is not None and behind.center:
        scale = np.asarray(behind.gamma) if behind.scale else 1.0
        behind.beta.assign_add(shift * scale / np.sqrt(np.asarray(behind.moving_variance) + behind.epsilon))


def _rounded(layer: Any, kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """The kernel as 8 bits hold it."""
    axes = _channel(layer)
    scale = np.maximum(np.abs(kernel).max(axis=None if axes is None else tuple(axes), keepdims=True) / 127, 1e-12)
    return np.asarray(np.rint(kernel / scale) * scale, np.float32)


def _source(layer: Any) -> str:
    """Name of the layer of the model that was cloned whose result this one reads."""
    while True:
        layer = layer.input._keras_history.operation
        if layer.__class__.__name__ == "InputLayer":
            return _INPUT
        if layer.__class__.__name__ not in (*_PASSES, "Lambda"):
            return str(layer.name)


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
