"""Whether an operator meets the conditions of a rule, and the sentence for the first one that it does not meet."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from converters.rule_file import Condition, OpRule
from converters.tflite_file import Graph, Operator, Tensor


class Failing(NamedTuple):
    """A condition that does not hold, and what is the case instead."""

    condition: Condition
    sentence: str


def find_failing(graph: Graph, operator: Operator, rule: OpRule, every: OpRule) -> Failing | None:
    """The first condition of `rule`, or of `every` where `rule` does not set it, that does not hold."""
    for condition, check in _CHECKS.items():
        wanted = getattr(rule, condition)
        wanted = getattr(every, condition) if wanted is None else wanted
        if wanted is None or wanted is False:
            continue
        sentence = check(graph, operator, wanted)
        if sentence:
            return Failing(condition, sentence)
    return None


def _read(graph: Graph, operator: Operator) -> list[Tensor]:
    return [graph.tensors[each] for each in operator.inputs if each >= 0]


def _flowing(graph: Graph, operator: Operator) -> Iterator[Tensor]:
    """What the operator reads and writes, constants left aside."""
    for tensor in (*_read(graph, operator), *(graph.tensors[each] for each in operator.outputs)):
        if tensor.data is None:
            yield tensor


def _version(_graph: Graph, operator: Operator, most: int) -> str:
    return f"version {operator.version}, at most {most} is taken" if operator.version > most else ""


def _dtypes(graph: Graph, operator: Operator, allowed: list[str]) -> str:
    other = next((one.dtype for one in _flowing(graph, operator) if one.dtype not in allowed), None)
    return f"{other}, where {_or(allowed)} is demanded" if other else ""


def _scales(graph: Graph, operator: Operator, _wanted: str) -> str:
    finer = any(one.data is not None and one.scale.size > 1 for one in _read(graph, operator))
    return "its weights have a scale a channel, one for the tensor is demanded" if finer else ""


def _reads(graph: Graph, operator: Operator, allowed: list[str]) -> str:
    dtype = graph.tensors[operator.inputs[0]].dtype
    return "" if dtype in allowed else f"reads {dtype}, where {_or(allowed)} is demanded"


def _zero_points(graph: Graph, operator: Operator, which: str) -> str:
    tensors = [*_read(graph, operator), *(graph.tensors[each] for each in operator.outputs)]
    off = next((one for one in (tensors[1:2] if which == "second" else tensors) if one.zero_point.any()), None)
    return "" if off is None else "a zero point that is not 0"


def _constants(graph: Graph, operator: Operator, numbers: list[int]) -> str:
    for number in numbers:
        given = number < len(operator.inputs) and operator.inputs[number] >= 0
        if given and not _fixed(graph, operator.inputs[number]):
            return f"its input {number} is computed, a constant is demanded"
    return ""


def _fixed(graph: Graph, tensor: int) -> bool:
    """Whether a tensor is a constant, or one that is stored in fewer bits and widened."""
    maker = graph.maker.get(tensor)
    widened = maker is not None and graph.operators[maker].kind == "DEQUANTIZE"
    source = graph.operators[maker].inputs[0] if widened and maker is not None else tensor
    return graph.tensors[source].data is not None


def _alike(graph: Graph, operator: Operator, numbers: list[int]) -> str:
    first = graph.tensors[operator.inputs[0]].dtype
    for number in numbers:
        other = graph.tensors[operator.inputs[number]].dtype if number < len(operator.inputs) else first
        if other != first:
            return f"its input {number} is {other}, its first {first}"
    return ""


def _static(graph: Graph, operator: Operator, _wanted: bool) -> str:
    opened = next((one.shape for one in _flowing(graph, operator) if -1 in one.shape), None)
    return f"open shape {_shape(opened)}" if opened else ""


def _varying(graph: Graph, operator: Operator, most: int) -> str:
    for one in _flowing(graph, operator):
        if any(abs(size) > 1 for size in one.shape[:-most]):
            return f"shape {_shape(one.shape)}: only the {most} innermost dimensions may be over 1"
    return ""


def _rank(graph: Graph, operator: Operator, ranks: list[int]) -> str:
    shape = graph.tensors[operator.inputs[0]].shape
    return "" if len(shape) in ranks else f"{len(shape)} dimensions, where {_or(ranks)} are demanded"


def _axes(graph: Graph, operator: Operator, allowed: list[int]) -> str:
    second = graph.tensors[operator.inputs[1]].data if len(operator.inputs) > 1 and operator.inputs[1] >= 0 else None
    rank = len(graph.tensors[operator.inputs[0]].shape)
    if second is not None and second.ndim == 2:  # amounts to pad, two a dimension
        touched = [axis for axis, amounts in enumerate(second) if np.any(amounts)]
    else:
        given = operator.options.get("axes", ()) if second is None else second.reshape(-1)
        touched = [int(axis) % rank for axis in given]
    other = [axis for axis in touched if axis not in allowed]
    return f"along axis {other[0]}, where {_or(allowed)} is demanded" if other else ""


def _elements(graph: Graph, operator: Operator, most: int) -> str:
    elements = math.prod(abs(size) for size in graph.tensors[operator.inputs[0]].shape)
    return f"{elements:,} elements, at most {most:,} are taken" if elements > most else ""


def _inputs(_graph: Graph, operator: Operator, most: int) -> str:
    return f"{len(operator.inputs)} inputs, at most {most} are taken" if len(operator.inputs) > most else ""


def _options(_graph: Graph, operator: Operator, allowed: dict[str, list[Any]]) -> str:
    for name, values in allowed.items():
        if name in operator.options and operator.options[name] not in values:
            return f"{name} is {operator.options[name]}, where {_or(values)} is demanded"
    return ""


def _same(_graph: Graph, operator: Operator, names: list[str]) -> str:
    values = [operator.options.get(name) for name in names]
    return f"{' and '.join(names)} differ" if len(set(values)) > 1 else ""


def _ratio(graph: Graph, operator: Operator, span: list[float]) -> str:
    out = graph.tensors[operator.outputs[0]]
    for one in _read(graph, operator):
        if one.scale.size and out.scale.size and not span[0] <= float(one.scale[0]) / float(out.scale[0]) < span[1]:
            return _outside(span, "of an input's scale to the output's")
    return ""


def _product_ratio(graph: Graph, operator: Operator, span: list[float]) -> str:
    scales = [float(one.scale[0]) for one in _read(graph, operator) if one.scale.size]
    out = graph.tensors[operator.outputs[0]].scale
    if out.size == 0 or not scales or span[0] <= math.prod(scales) / float(out[0]) < span[1]:
        return ""
    return _outside(span, "of the product of the inputs' scales to the output's")


def _outside(span: list[float], what: str) -> str:
    return f"the ratio {what} is outside of {span[0]:.2g} to {span[1]:g}"


def _or(values: list[Any]) -> str:
    """
    >>> _or([1, 2, 3])
    '1, 2 or 3'
    """
    *first, last = (str(value) for value in values)
    return f"{', '.join(first)} or {last}" if first else last


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join("?" if size < 0 else str(size) for size in shape)


_CHECKS: dict[Condition, Callable[[Graph, Operator, Any], str]] = {
    "version_max": _version,
    "dtypes": _dtypes,
    "reads": _reads,
    "alike": _alike,
    "static": _static,
    "rank": _rank,
    "constants": _constants,
    "scales": _scales,
    "zero_points": _zero_points,
    "varying_dims": _varying,
    "axes": _axes,
    "elements_max": _elements,
    "inputs_max": _inputs,
    "options": _options,
    "same": _same,
    "ratio": _ratio,
    "product_ratio": _product_ratio,
}
