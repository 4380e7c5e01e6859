"""Cross-layer equalisation (Nagel et al. 2019, Data-free quantization through weight equalization and bias correction).

A channel between two linear layers may have any unit as long as the activation between is proportional to its input:
divided by s where it is made, multiplied by s where it is read. With s = sqrt(r1 r2) / r2, from the ranges r1 and r2 of
the channel's kernels on either side, both ranges become sqrt(r1 r2). ReLU6 is proportional below 6 alone: a channel
behind it takes part only if the calibration images leave it room, and gets a unit in which they still do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.optional import require

ROUNDS = 20
ROOM = 0.75
"""Of its ceiling, what a channel behind ReLU6 may reach on the calibration images, before and after."""
LARGEST = 100.0
_LINEAR = ("Conv2D", "DepthwiseConv2D", "Dense")
_PASSES = ("Dropout", "ZeroPadding2D", "GlobalAveragePooling2D", "AveragePooling2D", "MaxPooling2D", "Identity")
Factors = NDArray[np.float64]


@dataclass(frozen=True)
class Pair:
    """Names of two linear layers, and of the rectifier between them that has a ceiling, if one has."""

    maker: str
    reader: str
    clip: str = ""
    ceiling: float = np.inf


def equalise(model: Any, inputs: Callable[[], Iterable[NDArray[np.float32]]]) -> Any:
    """A Keras model with the same outputs and balanced kernels; the model itself where no two layers can be balanced.

    `inputs` gives calibration images, model inputs (1, h, w, c) float32; it is asked only where a ReLU has a ceiling.
    """
    if not (pairs := find_pairs(model)):
        return model
    keras = require("keras", extra="toolkit")
    made = keras.models.clone_model(model)
    made.set_weights(model.get_weights())
    tops = _tops(keras, model, sorted({pair.clip for pair in pairs if pair.clip}), inputs)
    for _ in range(ROUNDS):
        moved = [_balance(made, pair, tops) for pair in pairs]
        if max(moved) < 1.01:
            break
    return made


def find_pairs(model: Any) -> list[Pair]:
    """The pairs of layers that can be balanced, in the order of the network."""
    makers = [layer for layer in model.layers if layer.__class__.__name__ in ("Conv2D", "DepthwiseConv2D")]
    return [pair for layer in makers if (pair := _pair(layer)) is not None]


def _pair(maker: Any) -> Pair | None:
    """The pair that begins with this layer: what it gives goes to one layer alone, and so on to the next linear one."""
    fused, behind = maker.activation.__name__, normalisation_behind(maker)
    if fused not in ("linear", "relu") or (behind is not None and (fused == "relu" or not _is_affine(behind))):
        return None
    clip, ceiling, layer = "", np.inf, _only_reader(behind or maker)
    while layer is not None and layer.__class__.__name__ not in _LINEAR:
        top = _ceiling(layer)
        if top is None and layer.__class__.__name__ not in _PASSES:
            return None
        if top is not None and np.isfinite(top):
            if clip:
                return None
            clip, ceiling = layer.name, top
        layer = _only_reader(layer)
    if layer is None or (layer.__class__.__name__ == "Conv2D" and layer.groups != 1):
        return None
    return Pair(maker.name, layer.name, clip, ceiling)


def normalisation_behind(layer: Any) -> Any | None:
    """The normalisation that alone reads the layer."""
    reader = _only_reader(layer)
    return reader if reader is not None and reader.__class__.__name__ == "BatchNormalization" else None


def _is_affine(normalisation: Any) -> bool:
    return bool(normalisation.scale and normalisation.center)


def _only_reader(layer: Any) -> Any | None:
    nodes = layer._outbound_nodes
    return nodes[0].operation if len(nodes) == 1 else None


def _ceiling(layer: Any) -> float | None:
    """Where a rectifier ends, infinity for one that does not; None for a layer that is none, or not from 0 on."""
    config, kind = layer.get_config(), layer.__class__.__name__
    if kind == "Activation":
        return {"relu": np.inf, "linear": np.inf, "relu6": 6.0}.get(str(config.get("activation")))
    if kind == "ReLU" and not config.get("negative_slope") and not config.get("threshold"):
        return np.inf if config.get("max_value") is None else float(config["max_value"])
    return None


def _tops(
    keras: Any, model: Any, names: list[str], inputs: Callable[[], Iterable[NDArray[np.float32]]]
) -> dict[str, Factors]:
    """The largest value (channels,) that each of these layers gives for the calibration images."""
    if not names:
        return {}
    looking = keras.Model(model.inputs[0], [model.get_layer(name).output for name in names])
    tops: dict[str, Factors] = {}
    for image in inputs():
        for name, value in zip(names, keras.tree.flatten(looking(image, training=False)), strict=True):
            top = np.asarray(value, np.float64).reshape(-1, value.shape[-1]).max(axis=0)
            tops[name] = np.maximum(tops[name], top) if name in tops else top
    return tops


def _balance(model: Any, pair: Pair, tops: dict[str, Factors]) -> float:
    """Balance a pair in place, `tops` with it; the largest factor that was applied, 1 or more."""
    maker, reader = model.get_layer(pair.maker), model.get_layer(pair.reader)
    given, taken = _given(maker), _taken(reader)
    dead = (given <= 0) | (taken <= 0)
    factor = np.clip(np.sqrt(np.where(dead, 1.0, given) / np.where(dead, 1.0, taken)), 1 / LARGEST, LARGEST)
    if pair.clip:
        top = tops[pair.clip]
        least = top / (ROOM * pair.ceiling)  # a smaller one would lift the channel's largest value to the ceiling
        factor = np.where(least > 1, 1.0, np.maximum(factor, least))
        tops[pair.clip] = top / factor
    _divide(maker, factor)
    kernel, *rest = reader.get_weights()
    reader.set_weights([kernel * factor[:, None].astype(np.float32), *rest])
    return float(np.maximum(factor, 1 / factor).max())


def _given(maker: Any) -> Factors:
    """The range (channels,) of the kernel that makes each channel."""
    kernel = _folded(maker)
    return np.asarray(kernel.max(axis=(0, 1)).ravel() if is_depthwise(maker) else kernel.max(axis=(0, 1, 2)))


def _taken(reader: Any) -> Factors:
    """The range (channels,) of the kernel that reads each channel."""
    kernel = _folded(reader)
    return np.asarray(kernel.max(axis=1) if kernel.ndim == 2 else kernel.max(axis=(0, 1, 3)))


def _folded(layer: Any) -> Factors:
    """The absolute kernel, with the normalisation behind it taken in."""
    kernel = np.abs(np.asarray(layer.get_weights()[0], np.float64))
    behind = normalisation_behind(layer)
    if behind is None:
        return np.asarray(kernel)
    gamma = np.abs(np.asarray(behind.gamma)) if behind.scale else 1.0
    scale = np.asarray(gamma / np.sqrt(np.asarray(behind.moving_variance) + behind.epsilon))
    return np.asarray(kernel * (scale.reshape(kernel.shape[2:]) if is_depthwise(layer) else scale))


def _divide(maker: Any, factor: Factors) -> None:
    """Divide each channel that the layer gives, through its normalisation or through kernel and bias."""
    by, behind = factor.astype(np.float32), normalisation_behind(maker)
    if behind is not None:
        for weights in (behind.gamma, behind.beta):
            weights.assign(np.asarray(weights) / by)
        return
    kernel, *bias = maker.get_weights()
    shaped = by.reshape(kernel.shape[2:]) if is_depthwise(maker) else by
    maker.set_weights([kernel / shaped, *[each / by for each in bias]])


def is_depthwise(layer: Any) -> bool:
    """Whether the layer convolves each channel alone."""
    return bool(layer.__class__.__name__ == "DepthwiseConv2D")
