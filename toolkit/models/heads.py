"""Heads: a feature map to the features "pooled", and these to "logits"."""

from __future__ import annotations

from typing import Any

from device_agent.contract.errors import BadInput
from toolkit.framework import load_keras
from toolkit.models.architecture import Architecture


def add_head(architecture: Architecture, maps: Any) -> Any:
    """The layer "pooled": features (n, k) of a map (n, h, w, features), drawn together as the head does it.

    Raises:
        BadInput: a head that weighs positions, on a map of one.
    """
    from toolkit.models import layers

    head = architecture.head
    if head in ("attention", "parts") and maps.shape[1] * maps.shape[2] == 1:
        raise BadInput(
            f"head {head}: {architecture.family} at {architecture.size} px ends in one position; take --size 48"
        )
    made = {
        "pooled": load_keras().layers.GlobalAveragePooling2D,
        "bilinear": layers.BilinearPooling,
        "attention": layers.AttentionPooling,
        "parts": layers.PartPooling,
    }[head]
    return made(name="pooled", dtype="float32")(maps)  # sums and exponents outgrow half precision


def add_logits(features: Any, classes: int, *, dropout: float = 0.0, zero: int | None = None) -> Any:
    """The layer "logits" (n, classes) float32 on features (n, k); that of class `zero` is and stays the constant 0.

    The column of the kernel is zero and an optimizer's step leaves it so, by a constraint: the last layer remains one
    dense layer, which converts and quantizes like any other.
    """
    keras = load_keras()
    if dropout:
        features = keras.layers.Dropout(dropout, name="dropout")(features)
    if zero is None:
        return keras.layers.Dense(classes, dtype="float32", name="logits")(features)
    from toolkit.models.layers import ZeroColumn

    constraint = ZeroColumn(zero)
    last = keras.layers.Dense(
        classes, dtype="float32", kernel_constraint=constraint, bias_constraint=constraint, name="logits"
    )
    logits = last(features)
    last.kernel.assign(constraint(last.kernel))
    return logits
