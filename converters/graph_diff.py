"""Two .tflite files held against each other, layer by layer: weights, shapes, types, scales, sizes."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from converters.layers import kernel_of, layer_names
from converters.mixed_graph import INPUT
from converters.tflite_file import Graph, Tensor, read_graph


class LayerState(msgspec.Struct, frozen=True, kw_only=True):
    """A layer of one file: the shape of its kernel (or of its output, where it has none), the types of kernel and
    output, the number of scales of the kernel, and the output's scale, zero point and the range that they span."""

    shape: list[int]
    weights: str
    output: str
    weight_scales: int = 0
    scale: float | None = None
    zero_point: int | None = None
    low: float | None = None
    high: float | None = None


class LayerDiff(msgspec.Struct, frozen=True, kw_only=True):
    """A layer of A and that of B, None where the other has none. `weights` is the norm of the difference of the
    dequantized kernels over that of A's, `bias` the same of the biases; None where shapes differ or there are none."""

    name: str
    kind: str
    a: LayerState | None
    b: LayerState | None
    weights: float | None = None
    bias: float | None = None

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return self.a == self.b and not self.weights and not self.bias


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of a model's files, and of a .tflite file by part: kernels, biases, other constants, and the rest; and how
    many numbers its kernels and biases are."""

    files: int
    kernels: int = 0
    biases: int = 0
    constants: int = 0
    rest: int = 0
    parameters: int = 0


def compare_graphs(a: Graph, b: Graph) -> list[LayerDiff]:
    """Every layer of both, those of A in order, then those that only B has.

    Layers belong together by kind and name; where fewer than half of them do, by their order.
    """
    names = [layer_names(graph) for graph in (a, b)]
    pairs = [(INPUT, INPUT), *_match(a, b, names)]
    paired = {other for _, other in pairs}
    alone = [number for number in range(len(a.operators)) if number not in {one for one, _ in pairs}]
    found = [_compare(a, b, one, other, names[0][one]) for one, other in pairs]
    found += [LayerDiff(name=names[0][n], kind=a.operators[n].kind, a=_state(a, n), b=None) for n in alone]
    order = {names[0][number]: number for number in names[0]}
    found.sort(key=lambda each: order[each.name])
    return found + [
        LayerDiff(name=names[1][number], kind=each.kind, a=None, b=_state(b, number))
        for number, each in enumerate(b.operators)
        if number not in paired
    ]


def size_of(path: Path) -> Size:
    """What of a .tflite file is what.

    Raises:
        NotFound, BadInput: as for `read_graph`.
    """
    graph, whole = read_graph(path), path.stat().st_size
    kernels: dict[int, NDArray[Any]] = {}
    biases: dict[int, NDArray[Any]] = {}
    constants: dict[int, NDArray[Any]] = {}
    for number, operator in enumerate(graph.operators):
        kernel, bias = kernel_of(graph, number)
        for tensor in operator.inputs:
            data = graph.tensors[tensor].data if tensor >= 0 else None
            if data is not None:
                kind = kernels if tensor == kernel else biases if tensor == bias else constants
                kind[tensor] = data
    sizes = [sum(data.nbytes for data in kind.values()) for kind in (kernels, biases, constants)]
    return Size(
        files=whole,
        kernels=sizes[0],
        biases=sizes[1],
        constants=sizes[2],
        rest=whole - sum(sizes),
        parameters=sum(data.size for kind in (kernels, biases) for data in kind.values()),
    )


def _match(a: Graph, b: Graph, names: list[dict[int, str]]) -> list[tuple[int, int]]:
    keys = [
        [(each.kind, names[side][number]) for number, each in enumerate(graph.operators)]
        for side, graph in enumerate((a, b))
    ]
    place = {key: number for number, key in enumerate(keys[1])}
    named = [(number, place[key]) for number, key in enumerate(keys[0]) if key in place]
    if 2 * len(named) >= min(len(a.operators), len(b.operators)):
        return named
    kinds = [[kind for kind, _ in side] for side in keys]
    blocks = difflib.SequenceMatcher(a=kinds[0], b=kinds[1], autojunk=False).get_matching_blocks()
    return [(block.a + step, block.b + step) for block in blocks for step in range(block.size)]


def _compare(a: Graph, b: Graph, one: int, other: int, name: str) -> LayerDiff:
    made = LayerDiff(
        name=name,
        kind="INPUT" if one == INPUT else a.operators[one].kind,
        a=_state(a, one),
        b=_state(b, other),
    )
    if one == INPUT:
        return made
    mine, theirs = kernel_of(a, one), kernel_of(b, other)
    return msgspec.structs.replace(made, weights=_off(a, b, mine[0], theirs[0]), bias=_off(a, b, mine[1], theirs[1]))


def _off(a: Graph, b: Graph, one: int, other: int) -> float | None:
    """Norm of the difference of two constants over that of the first."""
    if one < 0 or other < 0 or a.tensors[one].data is None or b.tensors[other].data is None:
        return None
    mine, theirs = a.tensors[one].values(), b.tensors[other].values()
    if mine.shape != theirs.shape:
        return None
    return float(np.linalg.norm(mine - theirs) / max(float(np.linalg.norm(mine)), 1e-12))


def _state(graph: Graph, number: int) -> LayerState:
    output = graph.tensors[graph.inputs[0] if number == INPUT else graph.operators[number].outputs[0]]
    kernel = -1 if number == INPUT else kernel_of(graph, number)[0]
    weights: Tensor | None = graph.tensors[kernel] if kernel >= 0 else None
    made = LayerState(
        shape=list((weights or output).shape),
        weights=weights.dtype if weights else "",
        output=output.dtype,
        weight_scales=int(weights.scale.size) if weights else 0,
    )
    if output.scale.size != 1 or not np.issubdtype(np.dtype(output.dtype), np.integer):
        return made
    ends, scale, zero_point = np.iinfo(output.dtype), float(output.scale[0]), int(output.zero_point[0])
    return msgspec.structs.replace(
        made,
        scale=scale,
        zero_point=zero_point,
        low=(int(ends.min) - zero_point) * scale,
        high=(int(ends.max) - zero_point) * scale,
    )
