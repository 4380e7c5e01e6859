"""Hard activations in an identical form that every int8 runtime computes in integers.

LiteRT's delegate knows no HARD_SWISH in int8: MobileNetV3 falls into twenty pieces and becomes slower than in float.
x * relu6(x + 3) / 6 is the same function of operators that are known. The division is left out and taken into the
kernels of the layers that follow, which are linear: two operators a map, as many as silu needs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from device_agent.contract.errors import BadInput
from device_agent.contract.optional import require

_HARD = {"hard_silu": True, "hard_swish": True, "hard_sigmoid": False}
_PASSES = ("Dropout", "GlobalAveragePooling2D", "Flatten", "Reshape", "Identity", "AveragePooling2D", "ZeroPadding2D")
_LINEAR = ("Conv2D", "DepthwiseConv2D", "Dense")


def without_hard_activations(model: Any) -> Any:
    """A Keras model with the same outputs and no hard activation; the model itself where it has none, or where one
    cannot be left out: then only what follows it without a linear layer keeps the division."""
    hard = {layer.name for layer in model.layers if _activation(layer) in _HARD}
    if not hard:
        return model
    keras = require("keras", extra="toolkit")
    factors, raised = _factors(model, hard)

    def replace(layer: Any) -> Any:
        if layer.name not in hard:
            return layer.__class__.from_config(layer.get_config())
        return _rectified(keras, layer.name, product=_HARD[_activation(layer)])

    made = keras.models.clone_model(model, clone_function=replace)
    for layer in model.layers:
        values = layer.get_weights()
        if not values:
            continue
        if layer.__class__.__name__ in _LINEAR:
            values[0] = values[0] / np.float32(factors[id(layer.input)])
        if layer.name in raised:
            values[:2] = [each * np.float32(raised[layer.name]) for each in values[:2]]
        made.get_layer(layer.name).set_weights(values)
    return made


def _activation(layer: Any) -> str:
    return str(layer.get_config().get("activation")) if layer.__class__.__name__ == "Activation" else ""


def _rectified(keras: Any, name: str, *, product: bool) -> Any:
    def call(value: Any) -> Any:
        gate = keras.ops.relu6(value + 3.0)
        return value * gate if product else gate

    return keras.layers.Lambda(call, name=name, output_shape=lambda shape: shape)


def _factors(model: Any, hard: set[str]) -> tuple[dict[int, float], dict[str, float]]:
    """By how much too large each tensor will be, by the tensor's identity; and the layers whose first two weights,
    scale and offset, have to grow so that the other branch of a sum is as much too large.

    Raises:
        BadInput: a layer between that is neither linear nor lets a factor pass.
    """
    factors: dict[int, float] = {}
    raised: dict[str, float] = {}
    for layer in model.operations:
        inputs = layer.input if isinstance(layer.input, list) else [layer.input]
        given = [factors.get(id(each), 1.0) for each in inputs]
        kind = layer.__class__.__name__
        if layer.name in hard and given[0] == 1.0:
            factor = 6.0
        elif kind == "Multiply":
            factor = float(np.prod(given))
        elif kind in _LINEAR or all(each == 1.0 for each in given):
            factor = 1.0
        elif kind in _PASSES:
            factor = given[0]
        elif kind == "Add" and (branches := _raisable(inputs, given)):
            factor = max(given)
            raised |= dict.fromkeys(branches, factor)
        else:
            raise BadInput(f"layer {layer.name} ({kind}): follows a hard activation and is not linear")
        outputs = layer.output if isinstance(layer.output, list) else [layer.output]
        factors |= {id(each): factor for each in outputs}
    return factors, raised


def _raisable(inputs: list[Any], given: list[float]) -> list[str]:
    """Names of the normalisations that give the smaller terms of a sum to nobody else; empty where one is not."""
    smaller = [each for each, factor in zip(inputs, given, strict=True) if factor != max(given)]
    makers = [each._keras_history.operation for each in smaller]
    alone = all(
        maker.__class__.__name__ == "BatchNormalization" and len(maker._outbound_nodes) == 1 for maker in makers
    )
    ones = all(factor == 1.0 for factor in given if factor != max(given))
    return [maker.name for maker in makers] if alone and ones else []
