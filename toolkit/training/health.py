"""Whether the layers of a network learn: gradient norms, activations, and alarms where these explode or are dead."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from toolkit.framework import load_keras

GROWTH = 100.0  # times its own start, or the typical layer, from which a layer explodes
LONG = 10.0  # a gradient shorter than this explodes nowhere
DEAD = 0.9  # share of channels that are the same for all images, from which a layer is dead
SAMPLES = 64  # steps of an epoch whose gradients are kept
LOOKS = 4  # parts of an epoch in which gradients are looked at
PROBED_IMAGES = 64
Norms = Sequence[NDArray[np.floating]]


class LayerHealth(msgspec.Struct, frozen=True, kw_only=True):
    """A layer in one epoch: the median norm of its gradient before clipping over the epoch and the longest of the four
    quarters' medians, the root mean square of its activations, and the share of their channels that never change over
    64 training images; None where a layer has no weights, or no activation."""

    epoch: int
    layer: str
    gradient_norm: float | None = None
    gradient_peak: float | None = None
    activation_rms: float | None = None
    dead_share: float | None = None


def gradient_health(epoch: int, layers: Sequence[str], norms: Norms) -> list[LayerHealth]:
    """The layers' gradients in an epoch.

    Args:
        layers: the layer of each variable.
        norms: for each step that was sampled, the norm of each variable's gradient (variables,).

    >>> gradient_health(1, ["a", "a", "b"], [np.array([3.0, 4.0, 1.0])])[0].gradient_norm
    5.0
    """
    names = list(dict.fromkeys(layers))
    member = np.array([[layer == name for layer in layers] for name in names], float)
    by_layer = np.sqrt(np.square(np.asarray(norms, np.float64)) @ member.T)
    looks = np.array_split(by_layer, min(LOOKS, len(by_layer)))
    medians, peaks = np.median(by_layer, axis=0), np.max([np.median(look, axis=0) for look in looks], axis=0)
    return [
        LayerHealth(epoch=epoch, layer=name, gradient_norm=_short(median), gradient_peak=_short(peak))
        for name, median, peak in zip(names, medians, peaks, strict=True)
    ]


def merged(*parts: Iterable[LayerHealth]) -> list[LayerHealth]:
    """One entry a layer from those about its gradient and those about its activations."""
    found: dict[str, LayerHealth] = {}
    for row in (row for part in parts for row in part):
        old = found.get(row.layer, row)
        known = {name: value for name in row.__struct_fields__ if (value := getattr(row, name)) is not None}
        found[row.layer] = msgspec.structs.replace(old, **known)
    return list(found.values())


def alarms(rows: Sequence[LayerHealth]) -> list[str]:
    """What is wrong in the last of the epochs in `rows`, one sentence a kind, with the layers in their order.

    A layer explodes when its gradient is over 10, and 100 times as long as its own in its first epoch and as the
    typical layer's then; or when its activations are 1,000 times the typical layer's, or 100 times those of its first
    epoch. It is dead when 9 of 10 channels never change.
    """
    last = max((row.epoch for row in rows), default=0)
    start = {row.layer: row for row in reversed(rows)}
    now = [row for row in rows if row.epoch == last]
    usual_norm = _median(row.gradient_norm for row in start.values())
    usual_rms = _median(row.activation_rms or None for row in now)  # of layers that are not silent
    found: dict[str, list[str]] = {"gradients explode": [], "activations explode": [], "dead": []}
    for row in now:
        first = start[row.layer]
        longest = max(LONG, GROWTH * max(first.gradient_norm or 0.0, usual_norm))
        if row.gradient_peak is not None and row.gradient_peak > longest:
            found["gradients explode"].append(f"{row.layer} ({row.gradient_peak:.2g})")
        largest = min(10 * GROWTH * usual_rms, GROWTH * (first.activation_rms or math.inf))
        if row.activation_rms is not None and row.activation_rms > largest:
            found["activations explode"].append(f"{row.layer} ({row.activation_rms:.2g})")
        if row.dead_share is not None and row.dead_share >= DEAD:
            found["dead"].append(f"{row.layer} ({row.dead_share:.0%} of its channels never change)")
    return [f"epoch {last}: {kind}: {_some(names)}" for kind, names in found.items() if names]


class Activations:
    """The activations of a model's nonlinear layers, compiled once and looked at after every epoch."""

    def __init__(self, model: Any) -> None:
        import tensorflow as tf

        keras = load_keras()
        self._layers = [layer for layer in model.layers if _is_nonlinear(keras, layer)]
        self._look = None
        if self._layers:
            outputs = keras.Model(model.inputs[0], [layer.output for layer in self._layers])
            self._look = tf.function(
                lambda images: [_spread(each) for each in _listed(outputs(images))], autograph=False
            )

    def health(self, epoch: int, images: NDArray[np.float32]) -> list[LayerHealth]:
        """The layers' activations for images (b, h, w, channels) float32, in inference."""
        if self._look is None:
            return []
        found = [[np.asarray(value) for value in pair] for pair in self._look(images)]
        return [
            LayerHealth(
                epoch=epoch,
                layer=layer.name,
                activation_rms=_short(rms),
                dead_share=_short(np.mean(width <= 1e-6 * max(float(rms), 1e-30))),
            )
            for layer, (rms, width) in zip(self._layers, found, strict=True)
        ]


def first_not_finite(model: Any, images: NDArray[np.float32], layers: Sequence[str], norms: NDArray[Any]) -> str:
    """Where a step first left the numbers: in the weights, then in the activations for its images (b, h, w, channels)
    float32, then in the loss or the gradients, which run from the last layer (`layers` names that of each of `norms`)
    to the first."""
    keras = load_keras()
    for layer in model.layers:
        if not all(np.isfinite(np.asarray(weight, np.float32)).all() for weight in layer.weights):
            return f"the weights of layer {layer.name}"
    outputs = [layer.output for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    names = [layer.name for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    if not np.isfinite(images).all():
        return "the images"
    found = _listed(keras.Model(model.inputs[0], outputs)(images, training=True))
    for name, values in zip(names, found, strict=True):
        if not all(np.isfinite(np.asarray(value, np.float32)).all() for value in _listed(values)):
            return f"the activations of layer {name}"
    broken = [layer for layer, norm in zip(layers, norms.tolist(), strict=True) if not math.isfinite(norm)]
    everywhere = len(broken) == len(layers)
    return (
        "the loss, with finite activations in every layer"
        if everywhere or not broken
        else (f"the gradient of layer {broken[-1]}")
    )


def sampled(steps: int) -> int:
    """Every how many steps gradients are kept, so that an epoch has at most 64 samples."""
    return max(1, math.ceil(steps / SAMPLES))


def _is_nonlinear(keras: Any, layer: Any) -> bool:
    if isinstance(layer, keras.layers.ReLU | keras.layers.LeakyReLU | keras.layers.PReLU | keras.layers.ELU):
        return True
    function = getattr(layer, "activation", None)
    name = getattr(function, "__name__", "linear")
    return "sigmoid" not in name and name not in ("linear", "softmax") and hasattr(layer, "output")


def _spread(values: Any) -> tuple[Any, Any]:
    """Root mean square of activations (b, ..., channels), and the distance from least to most of each channel."""
    import tensorflow as tf

    values = tf.cast(values, tf.float32)
    over = list(range(len(values.shape) - 1))
    return tf.sqrt(tf.reduce_mean(values**2)), tf.reduce_max(values, over) - tf.reduce_min(values, over)


def _listed(values: Any) -> list[Any]:
    return list(values) if isinstance(values, list | tuple) else [values]


def _short(value: Any) -> float:
    return float(f"{float(value):.4g}")


def _median(values: Iterable[float | None]) -> float:
    there = [value for value in values if value is not None]
    return float(np.median(there)) if there else 0.0


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
