"""Pretrained weights: read layer by layer from any of Keras' file formats, and put where they fit.

Only arrays and names are taken from an .h5 file, never its configuration: that of an older Keras may be one that this
Keras refuses, and the network is ours anyway.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput, NotFound
from device_agent.contract.optional import require
from toolkit.framework import load_keras

Arrays = list[NDArray[Any]]


class Stored(NamedTuple):
    """The weights of one layer of a file, in Keras' order; `name` is "" where the format keeps the kind alone."""

    name: str
    kind: str
    arrays: Arrays


def read_model(model: Any) -> list[Stored]:
    """The layers of a Keras model that have weights, those of models within it in their place."""
    return [Stored(layer.name, _kind(layer), layer.get_weights()) for layer in _weighted(model)]


def read_file(path: Path) -> list[Stored]:
    """The layers of a file of weights (.h5 of any Keras, .weights.h5) or of a whole model (.keras, .h5).

    Raises:
        NotFound: no such file.
        BadInput: another format, or damaged.
    """
    if not path.is_file():
        raise NotFound(f"{path}: no such file of weights")
    with path.open("rb") as file:
        start = file.read(4)
    if start == b"PK\x03\x04":
        from toolkit.models.files import load_model

        return read_model(load_model(path))
    if start != b"\x89HDF":
        raise BadInput(f"{path}: is no file of Keras weights; .h5, .weights.h5 and .keras are")
    h5py = require("h5py", extra="toolkit")
    try:
        with h5py.File(path) as root:
            stored = list(_read_h5(root))
    except (OSError, KeyError, ValueError, RuntimeError, AttributeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: is damaged, or no file of Keras weights") from error
    if not stored:
        raise BadInput(f"{path}: holds no weights of Keras layers")
    return stored


def _read_h5(root: Any) -> Iterator[Stored]:
    group = root.get("model_weights", root)
    if "layer_names" in group.attrs:
        for name in map(_text, group.attrs["layer_names"]):
            yield from _read_legacy(group[name], name)
        return
    if "layers" in group:
        yield from _read_kinds(group["layers"])


def _read_legacy(group: Any, name: str) -> Iterator[Stored]:
    """A layer as Keras 2 wrote it: arrays named "conv1/kernel:0". A model within the model is one such layer."""
    parts: dict[str, Arrays] = defaultdict(list)
    for weight in map(_text, group.attrs["weight_names"]):
        parts[weight.rpartition("/")[0]].append(np.asarray(group[weight]))
    for part, arrays in parts.items():
        yield Stored(name if len(parts) == 1 else part.rpartition("/")[2], "", arrays)


def _read_kinds(layers: Any) -> Iterator[Stored]:
    """Layers as Keras 3 writes them: "conv2d", "conv2d_1" and so on, counted for each kind in the model's order."""

    def place(name: str) -> tuple[str, int]:
        kind, _, number = name.rpartition("_")
        return (kind, int(number)) if kind and number.isdigit() else (name, 0)

    for name in sorted(layers, key=place):
        if "layers" in layers[name]:
            yield from _read_kinds(layers[name]["layers"])
        elif len(layers[name].get("vars", ())):
            arrays = layers[name]["vars"]
            yield Stored("", place(name)[0], [np.asarray(arrays[each]) for each in sorted(arrays, key=int)])


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def put_weights(model: Any, stored: list[Stored], what: str, path: str) -> None:
    """Give every layer of `model` its weights from the file: by name, else by kind and order. What the file holds
    besides, such as a top, is left aside. A convolution's bias that the model has not goes into the mean of the
    normalisation after it, which is the same. The layer "pooled" of a head takes what fits it and else stays drawn.

    Raises:
        BadInput: the file holds another network than `what`, or weights that are not finite.
    """
    layers = [layer for layer in _weighted(model) if layer.name != "pooled"]
    bias: Any = None
    chosen = []
    for layer, given in zip(layers, _matched(layers, stored, what, path), strict=True):
        arrays, wanted = list(given.arrays), [tuple(weight.shape) for weight in layer.weights]
        if bias is not None:
            if _kind(layer) != "batch_normalization" or len(arrays) != 4 or arrays[2].shape != bias.shape:
                raise _misfit(path, what, f"layer {layer.name} does not follow the bias before it")
            arrays[2], bias = arrays[2] - bias, None
        if len(arrays) == len(wanted) + 1 == 2:
            bias = arrays.pop()
        shapes = [array.shape for array in arrays]
        if shapes != wanted:
            raise _misfit(path, what, f"layer {layer.name} has weights {_listed(shapes)} there, {_listed(wanted)} here")
        if not all(np.isfinite(array).all() for array in arrays):
            raise BadInput(f"{path}: weights of layer {layer.name} are not finite; the file is damaged")
        chosen.append((layer, arrays))
    if bias is not None:
        raise _misfit(path, what, f"layer {layers[-1].name} has a bias there, none here")
    for layer, arrays in chosen:
        layer.set_weights(arrays)
    _put_head(model, stored)


def _matched(layers: list[Any], stored: list[Stored], what: str, path: str) -> list[Stored]:
    """What each layer has in the file."""
    by_name = {each.name: each for each in stored if each.name}
    if all(layer.name in by_name for layer in layers):
        return [by_name[layer.name] for layer in layers]
    queues: dict[str, list[Stored]] = defaultdict(list)
    ordered = any(each.name and not each.kind for each in stored)  # an old file with names of its own: one queue
    for each in stored:
        queues["" if ordered else each.kind].append(each)
    try:
        return [queues["" if ordered else _kind(layer)].pop(0) for layer in layers]
    except IndexError:
        raise _misfit(path, what, "holds the layers of another network") from None


def _put_head(model: Any, stored: list[Stored]) -> None:
    for layer in _weighted(model):
        given = next((each for each in stored if each.name == layer.name == "pooled"), None)
        if given and [each.shape for each in given.arrays] == [tuple(each.shape) for each in layer.weights]:
            layer.set_weights(given.arrays)


def _weighted(model: Any) -> list[Any]:
    """Layers with weights, in order; a model within the model gives its own."""
    keras = load_keras()
    found: list[Any] = []
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            found += _weighted(layer)
        elif layer.weights:
            found.append(layer)
    return found


def _kind(layer: Any) -> str:
    """The name of a layer's class as files of Keras 3 spell it: DepthwiseConv2D is depthwise_conv2d."""
    spaced = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", type(layer).__name__)
    return re.sub("([a-z])([A-Z])", r"\1_\2", spaced).lower()


def _listed(shapes: list[tuple[int, ...]]) -> str:
    return ", ".join("x".join(map(str, shape)) for shape in shapes) or "none"


def _misfit(path: str, what: str, reason: str) -> BadInput:
    return BadInput(
        f"{path}: {reason}; it must hold {what}, with or without its top "
        "(--model and --width name what the file was saved from)"
    )
