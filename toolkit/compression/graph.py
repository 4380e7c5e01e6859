"""A Keras network as a list of nodes: what each layer does to channels, and what that costs."""

from __future__ import annotations

from math import prod
from typing import Any, Literal, NamedTuple

import numpy as np

from device_agent.contract.errors import BadInput
from toolkit.framework import load_keras

Role = Literal["source", "mix", "along", "fixed"]
SHAPING = {"GlobalAveragePooling2D", "GlobalMaxPooling2D", "Reshape"}
ACTING = {"Activation", "ReLU", "LeakyReLU", "ELU"}
ALONG = SHAPING | {
    "Activation", "ReLU", "LeakyReLU", "ELU", "BatchNormalization", "DepthwiseConv2D", "AveragePooling2D",
    "MaxPooling2D", "Dropout", "SpatialDropout2D", "Identity", "ZeroPadding2D", "Rescaling", "Add", "Multiply",
}  # fmt: skip
FIXED = {"BgrOffset", "AttentionPooling", "PartPooling", "BilinearPooling"}
"""Layers of our own that take all channels as they come; what they take and what they give is never cut."""


class Node(NamedTuple):
    """A layer in its place. `role`: "mix" makes new channels of all that come in (convolution, dense), "along" treats
    each by itself, "source" and "fixed" have channels that stay. `inputs` and `output` are numbers of tensors, `width`
    the channels of the output.

    Cost: a mix has `work` multiply-accumulates and `weights` parameters a pair of channels, and `biases` parameters a
    channel that it makes; an "along" has `work` and `weights` a channel, a "fixed" `weights` in all. `acts` says
    whether it bends: activations, and layers with one inside.
    """

    name: str
    type: str
    role: Role
    inputs: tuple[int, ...]
    output: int
    width: int
    work: int = 0
    weights: int = 0
    biases: int = 0
    acts: bool = False

    @property
    def joins(self) -> bool:
        """Whether it adds up several tensors."""
        return self.type == "Add" and len(self.inputs) > 1


class Graph(NamedTuple):
    """Nodes in the order in which they compute, and the number of the tensor that leaves the network."""

    nodes: list[Node]
    output: int


def read_graph(model: Any) -> Graph:
    """The nodes of a functional Keras model.

    Raises:
        BadInput: a layer whose channels cannot be followed, named; a layer that is used twice; weights that are not
            finite.
    """
    keras = load_keras()
    if not isinstance(model, keras.Model) or not hasattr(model, "_nodes_by_depth"):
        raise BadInput(f"{model.name}: is no functional Keras model; its layers cannot be followed")
    for layer in model.layers:
        if not all(np.isfinite(weight).all() for weight in layer.get_weights()):
            raise BadInput(f"layer {layer.name!r} has weights that are not finite; train again with --fresh")
    numbers: dict[int, int] = {}
    nodes, seen = [], set()
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for place in model._nodes_by_depth[depth]:
            if place.operation.name in seen:
                raise BadInput(f"layer {place.operation.name!r} is used twice; its channels cannot be cut")
            seen.add(place.operation.name)
            nodes.append(_node(place, numbers))
    return Graph(nodes, numbers[id(model.outputs[0])])


def _node(place: Any, numbers: dict[int, int]) -> Node:
    layer, out = place.operation, place.output_tensors[0]
    kind = type(layer).__name__
    inputs = tuple(numbers[id(tensor)] for tensor in place.input_tensors)
    number = numbers.setdefault(id(out), len(numbers))
    role = _role(layer, kind, place)
    acts = kind in ACTING or getattr(getattr(layer, "activation", None), "__name__", "linear") != "linear"
    return Node(layer.name, kind, role, inputs, number, int(out.shape[-1]), *_costs(layer, kind, out.shape), acts)


def _role(layer: Any, kind: str, place: Any) -> Role:
    widths = {int(tensor.shape[-1]) for tensor in (*place.input_tensors, *place.output_tensors)}
    if kind == "InputLayer":
        return "source"
    if getattr(layer, "data_format", "channels_last") == "channels_first":
        raise _unknown(layer, kind, "its channels come first")
    if kind == "Dense" or (kind == "Conv2D" and layer.groups == 1):
        if kind == "Dense" and len(place.input_tensors[0].shape) != 2:
            raise _unknown(layer, kind, "it works on more than features")
        return "mix"
    if kind in FIXED:
        return "fixed"
    if kind not in ALONG:
        raise _unknown(layer, kind, "what it does to channels is not known")
    if len(widths) != 1:
        raise _unknown(layer, kind, f"it turns or joins {' and '.join(map(str, sorted(widths)))} channels")
    if kind == "Reshape" and prod(place.output_tensors[0].shape[1:]) != widths.pop():
        raise _unknown(layer, kind, "it moves positions")
    return "along"


def _unknown(layer: Any, kind: str, reason: str) -> BadInput:
    return BadInput(f"layer {layer.name!r} ({kind}) cannot be pruned around: {reason}")


def _costs(layer: Any, kind: str, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Multiply-accumulates and parameters a pair of channels (or a channel), and further parameters a channel."""
    biased = int(bool(getattr(layer, "use_bias", False)))
    if kind in ("Conv2D", "DepthwiseConv2D"):
        area = prod(layer.kernel_size)
        work = area * prod(shape[1:3])
        return (work, area, biased) if kind == "Conv2D" else (work, area + biased, 0)
    if kind == "Dense":
        return 1, 1, biased
    if kind in FIXED:
        return 0, int(layer.count_params()), 0
    return (0, len(layer.weights), 0) if kind == "BatchNormalization" else (0, 0, 0)
