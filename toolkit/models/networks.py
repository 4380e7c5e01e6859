"""Networks of any family, width and size, from an image in [-1, 1] to logits."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from device_agent.contract.manifest import InputSpec
from device_agent.preprocess import table
from toolkit.framework import load_keras
from toolkit.models.architecture import Architecture
from toolkit.models.backbones import fetch_backbone, make_backbone
from toolkit.models.heads import add_head, add_logits
from toolkit.models.weights import put_weights, read_file, read_model

BN_MOMENTUM = 0.9  # Keras' MobileNets have 0.999: after a short training the averages would still be those of the start


def build(
    architecture: Architecture,
    classes: int,
    *,
    weights: str | None = None,
    dropout: float = 0.0,
    task: str = "classes",
    good: int | None = None,
) -> Any:
    """A Keras model: "image" float32 (n, height, width, 3) in [-1, 1] to "logits" float32 (n, classes).

    The layer before the logits is "pooled", whatever the head. Weights are drawn at random, or those of the backbone
    are read from the file `weights` or, for "imagenet", fetched by Keras. With the task "labels" (several marks an
    image) the logit of class number `good` is the constant 0.

    Raises:
        BadInput: weights of another family or width, or that cannot be fetched; one's own function does not give such a
            model.
        NotFound: no such file.
    """
    architecture.check()
    if task == "labels" and (good is None or not 0 <= good < classes):
        raise BadInput(f"task labels: needs the number of the one good class, 0 to {classes - 1}, got {good}")
    keras = load_keras()
    if architecture.own:
        from toolkit.models.own import make_own

        trunk, last = make_own(architecture, classes)
    else:
        backbone = make_backbone(architecture)
        trunk, last = keras.Model(backbone.inputs[0], add_head(architecture, backbone.output)), None
    for layer in normalizations(trunk):
        layer.momentum = BN_MOMENTUM
    if weights is not None:
        stored = read_model(fetch_backbone(architecture)) if weights == "imagenet" else read_file(Path(weights))
        put_weights(trunk, stored, str(architecture), weights)
    elif last is None:
        _start_as_identity(trunk)
    logits = add_logits(trunk.output, classes, dropout=dropout, zero=good if task == "labels" else None)
    model = keras.Model(trunk.inputs[0], logits, name=re.sub(r"\W", "_", architecture.family))
    if last is not None:
        model.get_layer("logits").set_weights(last)
    return model


def normalizations(model: Any) -> list[Any]:
    """Every batch normalisation of a model, those of models within it too."""
    keras = load_keras()
    found = model._flatten_layers(include_self=False)
    return [layer for layer in found if isinstance(layer, keras.layers.BatchNormalization)]


def _start_as_identity(trunk: Any) -> None:
    """Zero the last scale of every residual branch, so that each block starts as the identity (Goyal et al. 2017):
    in one trial on drawn parts, not kept as a benchmark, macro-F1 was 0.72 with it after 350 steps, 0.54 without."""
    keras = load_keras()
    for layer in trunk.layers:
        if isinstance(layer, keras.layers.Add):
            ends = [_branch_end(tensor) for tensor in layer.input]
            branches = [end for end in ends if end is not None]
            if branches:
                branches[-1].gamma.assign(branches[-1].gamma * 0)


def _branch_end(tensor: Any) -> Any:
    """The normalisation that gives this tensor to nobody else, through a dropout or not; None where none does."""
    keras = load_keras()
    layer = tensor._keras_history.operation
    while isinstance(layer, keras.layers.Dropout):
        layer = layer.input._keras_history.operation
    alone = len(layer._outbound_nodes) == 1
    return layer if alone and isinstance(layer, keras.layers.BatchNormalization) else None


def settle_statistics(model: Any, images: NDArray[np.uint8], spec: InputSpec) -> None:
    """Set the moving statistics of every normalisation to those of images (n, h, w, channels) uint8.

    Keras starts them at mean 0 and variance 1, a drawn network is at 1e-4: until the averages have come down, some
    hundred steps later, the model answers the same to every image of the validation split.
    """
    layers = normalizations(model)
    if not layers:
        return
    momenta = [layer.momentum for layer in layers]
    try:
        for layer in layers:
            layer.momentum = 0.0
        model(table(spec)[images], training=True)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
