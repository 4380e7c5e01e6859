"""MobileNets of any width and size, ending in logits."""

from __future__ import annotations

import urllib.error
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput, NotFound
from device_agent.contract.files import replacing
from device_agent.contract.manifest import InputSpec
from device_agent.preprocess import table
from toolkit.framework import load_keras

FAMILIES = {
    "mobilenet-v2": "MobileNetV2",
    "mobilenet-v3-small": "MobileNetV3Small",
    "mobilenet-v3-large": "MobileNetV3Large",
}
ACTIVATIONS = {"hard-silu": "hard_silu", "silu": "silu", "relu": "relu"}
BN_MOMENTUM = 0.9  # Keras' MobileNets have 0.999: after a short training the averages would still be those of the start
Logits = NDArray[np.float32]


class Architecture(msgspec.Struct, frozen=True, kw_only=True):
    """A backbone: family, width multiplier `alpha`, side of the square input in px; for V3 also whether to leave out
    squeeze-and-excite and 5x5 kernels (`minimalistic`), and another activation than its own hard-silu."""

    family: str = "mobilenet-v2"
    alpha: float = 0.35
    size: int = 96
    minimalistic: bool = False
    activation: Literal["hard-silu", "silu", "relu"] | None = None

    def check(self) -> None:
        """Refuse what cannot be built.

        Raises:
            BadInput: an unknown family, a width or size out of range, an option of V3 with V2.
        """
        if self.family not in FAMILIES:
            raise BadInput(f"model: no {self.family!r}; known are {', '.join(FAMILIES)}")
        if not 0.05 <= self.alpha <= 2:
            raise BadInput(f"width must be 0.05 to 2, got {self.alpha:g}")
        if not 32 <= self.size <= 512:
            raise BadInput(f"size must be 32 to 512 px, got {self.size}")
        if self.family == "mobilenet-v2" and (self.minimalistic or self.activation):
            raise BadInput("mobilenet-v2 has no --minimalistic and no --activation; both belong to mobilenet-v3")

    def input_spec(self) -> InputSpec:
        """What the device has to do to a frame before this model sees it."""
        return InputSpec(height=self.size, width=self.size)


def build(architecture: Architecture, classes: int, *, weights: str | None = None, dropout: float = 0.0) -> Any:
    """A Keras model: "image" float32 (n, size, size, 3) in [-1, 1] to "logits" float32 (n, classes).

    The layer before the logits is "pooled", the mean over the last feature map. Weights are drawn at random, or those
    of the backbone are read from the file `weights` or, for "imagenet", fetched by Keras.

    Raises:
        BadInput: weights of another family or width, or that cannot be fetched.
        NotFound: no such file.
    """
    architecture.check()
    keras = load_keras()
    image = keras.Input((architecture.size, architecture.size, 3), name="image")
    backbone = _backbone(architecture, image, weights)
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = BN_MOMENTUM
    if weights is None:
        _start_as_identity(backbone)
    pooled = keras.layers.GlobalAveragePooling2D(name="pooled")(backbone.output)
    kept = keras.layers.Dropout(dropout, name="dropout")(pooled) if dropout else pooled
    logits = keras.layers.Dense(classes, name="logits")(kept)
    return keras.Model(backbone.inputs[0], logits, name=architecture.family.replace("-", "_"))


def _backbone(architecture: Architecture, image: Any, weights: str | None) -> Any:
    keras = load_keras()
    if weights not in (None, "imagenet") and not Path(weights).is_file():
        raise NotFound(f"{weights}: no such file of weights")
    options: dict[str, Any] = {"alpha": architecture.alpha, "include_top": False, "input_tensor": image}
    if architecture.family != "mobilenet-v2":
        options |= {"minimalistic": architecture.minimalistic, "include_preprocessing": False}
    make = getattr(keras.applications, FAMILIES[architecture.family])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # imagenet weights of 224 px serve every size
            backbone = make(weights=weights, **options)
    except (ValueError, KeyError, OSError) as error:
        raise BadInput(_misfit(architecture, weights)) from error
    except Exception as error:
        if isinstance(error.__context__, urllib.error.URLError):  # Keras raises a bare Exception from it
            raise BadInput("weights: imagenet cannot be fetched from here; --weights PATH takes a file") from error
        raise
    return _activated(backbone, architecture.activation)


def _start_as_identity(backbone: Any) -> None:
    """Zero the last scale of every residual branch, so that each block starts as the identity (Goyal et al. 2017):
    in one trial on drawn parts, not kept as a benchmark, macro-F1 was 0.72 with it after 350 steps, 0.54 without."""
    keras = load_keras()
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.Add):
            branch = layer.input[1]._keras_history.operation
            if isinstance(branch, keras.layers.BatchNormalization):
                branch.gamma.assign(branch.gamma * 0)


def settle_statistics(model: Any, images: NDArray[np.uint8], spec: InputSpec) -> None:
    """Set the moving statistics of every normalisation to those of images (n, h, w, channels) uint8.

    Keras starts them at mean 0 and variance 1, a drawn network is at 1e-4: until the averages have come down, some
    hundred steps later, the model answers the same to every image of the validation split.
    """
    keras = load_keras()
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in layers]
    try:
        for layer in layers:
            layer.momentum = 0.0
        model(table(spec)[images], training=True)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum


def _misfit(architecture: Architecture, weights: str | None) -> str:
    if weights == "imagenet":
        return f"weights: Keras has none of imagenet for {architecture.family} at width {architecture.alpha:g}"
    with Path(str(weights)).open("rb") as file:
        reason = "holds other layers" if file.read(4) == b"\x89HDF" else "is not an HDF5 file of Keras weights"
    return (
        f"{weights}: {reason}; it must hold {architecture.family} at width {architecture.alpha:g} without its top "
        "(--model and --width name what the file was saved from)"
    )


def _activated(backbone: Any, activation: str | None) -> Any:
    """The backbone with its hard-silu layers replaced; weights are kept."""
    if activation in (None, "hard-silu"):
        return backbone
    keras = load_keras()

    def swap(layer: Any) -> Any:
        config = layer.get_config()
        if isinstance(layer, keras.layers.Activation) and config["activation"] in ("hard_silu", "hard_swish"):
            config["activation"] = ACTIVATIONS[activation]
        return type(layer).from_config(config)

    swapped = keras.models.clone_model(backbone, clone_function=swap)
    swapped.set_weights(backbone.get_weights())
    return swapped


def compile_answers(model: Any) -> Callable[[Any], Any]:
    """The model in inference as one compiled function, float32 (n, size, size, 3) to logits; it follows the weights."""
    import tensorflow as tf

    answer = tf.function(lambda image: model(image, training=False), autograph=False)
    compiled: Callable[[Any], Any] = answer.get_concrete_function(
        tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)
    )
    return compiled


def predict(
    model: Any,
    images: NDArray[np.uint8],
    spec: InputSpec,
    *,
    batch: int = 64,
    answer: Callable[[Any], Any] | None = None,
) -> Logits:
    """Logits (n, classes) float32 of images (n, h, w, channels) uint8; `answer` is the model compiled before."""
    import tensorflow as tf

    answer = answer or compile_answers(model)
    values = table(spec)
    parts = [answer(tf.constant(values[images[at : at + batch]])).numpy() for at in range(0, len(images), batch)]
    return np.concatenate(parts) if parts else np.empty((0, model.output_shape[-1]), np.float32)


def save_model(model: Any, path: Path) -> None:
    """Write a .keras file wholly or not at all.

    Raises:
        NotWritable: the disk is full, read-only or forbids it.
    """
    with replacing(path) as temporary:
        # Keras wants the suffix and asks on a terminal before it replaces a file
        named = temporary.with_name(f"{temporary.name}.keras")
        try:
            model.save(named)
            named.replace(temporary)
        finally:
            named.unlink(missing_ok=True)


def load_model(path: Path) -> Any:
    """The Keras model in a .keras file, for inference.

    Raises:
        NotFound: no such file.
        BadInput: not a Keras model.
    """
    if not path.is_file():
        raise NotFound(f"{path}: no such model")
    try:
        return load_keras().models.load_model(path, compile=False)
    except (ValueError, OSError, KeyError, TypeError) as error:
        raise BadInput(f"{path}: cannot be read as a Keras model; train again with --fresh") from error
