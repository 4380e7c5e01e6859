"""A smaller model of a larger one: the same layers with some of their channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.compression.channels import Channels
from toolkit.framework import load_keras

Keep = Mapping[str, NDArray[np.int64]]


def cut(model: Any, channels: Channels, keep: Keep) -> Any:
    """A new Keras model with the channels `keep` of each group, by name, in ascending order; a group that is not named
    keeps all of its own.

    Its weights are those of the model, sliced: where nothing is removed it gives the very same logits, and where only
    channels are removed that are always zero it gives equal ones.
    """
    keras = load_keras()
    wide = {name: np.arange(group.width) if name not in keep else keep[name] for name, group in channels.groups.items()}

    def smaller(layer: Any) -> Any:
        made = channels.made[layer.name]
        return type(layer).from_config(_config(layer, len(wide[made])))

    small = keras.models.clone_model(model, clone_function=smaller)
    for node in channels.nodes:
        if node.role in ("mix", "along"):
            _copy(model, small, node.name, wide[channels.taken[node.name]], wide[channels.made[node.name]])
        elif getattr(_operation(model, node.name), "weights", None):
            _operation(small, node.name).set_weights(_operation(model, node.name).get_weights())
    return small


def _config(layer: Any, width: int) -> dict[str, Any]:
    config: dict[str, Any] = layer.get_config()
    config.pop("build_config", None)
    kind = type(layer).__name__
    if kind == "Conv2D":
        config["filters"] = width
    elif kind == "Dense":
        config["units"] = width
    elif kind == "Reshape":
        config["target_shape"] = (*config["target_shape"][:-1], width)
    return config


def _copy(model: Any, small: Any, name: str, taken: NDArray[np.int64], made: NDArray[np.int64]) -> None:
    """The slices of a layer's weights, if it has any."""
    layer = _operation(model, name)
    weights = getattr(layer, "weights", ())
    if not weights:
        return
    depthwise = type(layer).__name__ == "DepthwiseConv2D"
    sliced = []
    for value in layer.get_weights():
        if value.ndim == 1:
            sliced.append(value[made])
        elif depthwise:
            sliced.append(value[..., made, :])
        else:
            sliced.append(value[..., taken, :][..., made])
    _operation(small, name).set_weights(sliced)


def _operation(model: Any, name: str) -> Any:
    return next(each for each in model.operations if each.name == name)
