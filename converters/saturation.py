"""Where sums of two products can go over 16 bits on x86 processors without VNNI.

There, kernels for unsigned activations and signed weights (ONNX Runtime, OpenVINO) multiply with VPMADDUBSW, which adds
two neighbouring products of 8 bits and saturates at 16 (Intel 64 and IA-32 Architectures Software Developer's Manual,
volume 2). The answer is then silently another one than on a processor with VNNI, which adds in 32 bits. LiteRT widens
to 16 bits before it multiplies and is not concerned.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np
from numpy.typing import NDArray

from converters.layer_noise import Seen
from converters.layers import layer_names, limits
from converters.tflite_file import Graph

_KINDS = ("CONV_2D", "FULLY_CONNECTED")  # depthwise kernels multiply in 16 bits


class Saturation(msgspec.Struct, frozen=True, kw_only=True):
    """A layer whose pairs of neighbouring weights can saturate: the share of `pairs` that can with any activations
    (`possible`), and with the largest that were seen in each channel (`likely`). Predicted from weights and ranges, for
    kernels that take the weights of one output channel in the order height, width, channel."""

    number: int
    name: str
    pairs: int
    possible: float
    likely: float


def find_saturations(graph: Graph, seen: Mapping[int, Seen]) -> list[Saturation] | None:
    """The layers of which any pair can saturate, the most likely first; None where no kernel is int8. `seen` is
    `layer_noise.Noise.seen`."""
    found, signed = [], False
    for number, operator in enumerate(graph.operators):
        kernel = graph.tensors[operator.inputs[1]] if operator.kind in _KINDS else None
        if kernel is None or kernel.data is None or kernel.data.dtype != np.int8:
            continue
        signed = True
        given = graph.tensors[operator.inputs[0]]
        rows = kernel.data.reshape(len(kernel.data), -1).astype(np.int32)
        most = np.full(rows.shape[1], 255, np.int32)
        possible = share_over(rows, most)
        if operator.inputs[0] in seen and given.quantized:
            high = seen[operator.inputs[0]].high
            codes = np.clip(np.ceil((high - limits(given)[0]) / float(given.scale[0])), 0, 255).astype(np.int32)
            most = np.tile(codes, rows.shape[1] // len(codes)) if rows.shape[1] % len(codes) == 0 else most
        if possible > 0:
            likely = share_over(rows, most)
            pairs = rows.shape[0] * ((rows.shape[1] + 1) // 2)
            name = layer_names(graph)[number]
            found.append(Saturation(number=number, name=name, pairs=pairs, possible=possible, likely=likely))
    return sorted(found, key=lambda each: (-each.likely, -each.possible)) if signed else None


def share_over(weights: NDArray[np.int32], most: NDArray[np.int32]) -> float:
    """Share of pairs of neighbouring weights (rows, n) whose two products with activations from 0 to `most` (n,) can
    add up to more than 32,767 or less than -32,768.

    >>> share_over(np.array([[127, 127, 127, -127]]), np.full(4, 255))
    0.5
    >>> share_over(np.array([[64, 64, -64, -64]]), np.full(4, 255))
    0.0
    """
    if weights.shape[1] % 2:
        weights, most = np.pad(weights, ((0, 0), (0, 1))), np.pad(most, (0, 1))
    products = (weights * most).reshape(len(weights), -1, 2)
    above, below = np.maximum(products, 0).sum(axis=2), np.minimum(products, 0).sum(axis=2)
    return float(((above > 32767) | (below < -32768)).mean())
