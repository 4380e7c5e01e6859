"""Other scales for a quantized .tflite file: another range for one tensor, narrower weights, bytes as they are.

Each edits a file in place. Whatever changes a scale has to change the biases that are counted in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.layers import limits
from converters.tflite_file import FUSED, Graph, edit, read_graph
from device_agent.contract.errors import BadInput
from device_agent.contract.manifest import InputSpec

_TIED = {"RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE", "PAD", "MAX_POOL_2D", "AVERAGE_POOL_2D", "CONCATENATION"}
_FIXED = {"LOGISTIC", "SOFTMAX", "TANH", "L2_NORMALIZATION"}
_BIASED = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}


def set_ranges(path: Path, ranges: Mapping[int, tuple[float, float]]) -> None:
    """Let activation tensors, by their number, hold other values: from low to high (0 is always in). Tensors that are
    tied to one change with it; of several that are tied to each other the first counts.

    Raises:
        NotFound, BadInput: as for `read_graph`; or the scale of a tensor is given by its operator.
    """
    graph, done = read_graph(path), set[int]()
    new: dict[int, tuple[float, int]] = {}
    for tensor, (low, high) in ranges.items():
        tied = _tied(path, graph, tensor) - done
        done |= tied
        ends = np.iinfo(graph.tensors[tensor].dtype)
        low, high = min(low, 0.0), max(high, 0.0)
        scale = (high - low) / (int(ends.max) - int(ends.min))
        zero_point = int(np.clip(np.rint(int(ends.min) - low / scale), ends.min, ends.max))
        new |= dict.fromkeys(tied, (scale, zero_point))

    def change(_: Any, model: Any) -> None:
        for each, (scale, zero_point) in new.items():
            quantization = model.subgraphs[0].tensors[each].quantization
            quantization.scale, quantization.zeroPoint = [scale], [zero_point]
        _refit_biases(model, graph)

    edit(path, change)


def clip_ranges(path: Path) -> None:
    """Let the output of a fused activation hold what that can give, and no more.

    TensorFlow's converter counts what was there before the activation: relu6(x + 3) then has a dozen codes of 256.

    Raises:
        NotFound, BadInput: as for `read_graph`.
    """
    graph, ranges = read_graph(path), {}
    for operator in graph.operators:
        ends = FUSED.get(operator.options.get("fusedActivationFunction", 0))
        tensor = operator.outputs[0] if operator.outputs else -1
        if ends is None or not has_own_range(graph, tensor):
            continue
        low, high = limits(graph.tensors[tensor])
        alone = all(_bounds(graph, each) == ends for each in _tied(path, graph, tensor))
        if alone and (low < ends[0] - 1e-6 or high > ends[1] + 1e-6):
            ranges[tensor] = (max(low, ends[0]), min(high, ends[1]))
    if ranges:
        set_ranges(path, ranges)


def _bounds(graph: Graph, tensor: int) -> tuple[float, float] | None:
    """Of the fused activation that gives a tensor."""
    maker = graph.maker.get(tensor)
    return None if maker is None else FUSED.get(graph.operators[maker].options.get("fusedActivationFunction", 0))


def has_own_range(graph: Graph, tensor: int) -> bool:
    """Whether the range of a tensor can be chosen: its operator does not give it."""
    maker = graph.maker.get(tensor)
    return graph.tensors[tensor].quantized and (maker is None or graph.operators[maker].kind not in _FIXED)


def shift_biases(path: Path, shifts: Mapping[int, NDArray[np.floating]]) -> None:
    """Add to the int32 bias of operators, by their number, a shift of each channel (channels,) in real values.

    Raises:
        NotFound, BadInput: as for `read_graph`.
    """
    graph = read_graph(path)

    def change(_: Any, model: Any) -> None:
        for number, shift in shifts.items():
            bias = graph.tensors[graph.operators[number].inputs[2]]
            assert bias.data is not None
            tensor = model.subgraphs[0].tensors[graph.operators[number].inputs[2]]
            _store(model, tensor, _whole(bias.data + shift / bias.scale))

    edit(path, change)


def best_range(sample: NDArray[np.float32], low: float, high: float) -> tuple[float, float]:
    """The part of the range from `low` to `high` in which 256 steps round `sample` with the least squared error.

    >>> low, high = best_range(np.append(np.linspace(0, 1, 1000), 100).astype(np.float32), 0.0, 100.0)
    >>> round(high)
    100
    >>> best_range(np.append(np.linspace(0, 1, 10**6), 3).astype(np.float32), 0.0, 3.0)[1] < 3
    True
    """
    best, least = (low, high), np.inf
    for share in np.linspace(0.3, 1.0, 36):
        scale = (high - low) * share / 255
        start = np.rint(low * share / scale)
        got = np.clip(np.rint(sample / scale), start, start + 255) * scale
        error = float(np.square(sample - got).mean())
        if error < least:
            best, least = (float(low * share), float(high * share)), error
    return best


def narrow_weights(path: Path) -> None:
    """Give int8 kernels 7 bits: two products with bytes then never go over what 16 bits hold. Depthwise ones stay as
    they are, their products are not added in pairs.

    Raises:
        NotFound, BadInput: as for `read_graph`.
    """
    graph = read_graph(path)
    kernels = {each.inputs[1] for each in graph.operators if each.kind in ("CONV_2D", "FULLY_CONNECTED")}

    def change(_: Any, model: Any) -> None:
        for number in sorted(kernels):
            data, tensor = graph.tensors[number].data, model.subgraphs[0].tensors[number]
            if data is not None and data.dtype == np.int8:
                _store(model, tensor, np.rint(data / 2).astype(np.int8))
                tensor.quantization.scale = np.asarray(tensor.quantization.scale, np.float32) * 2
        _refit_biases(model, graph)

    edit(path, change)


def take_bytes(path: Path, spec: InputSpec) -> None:
    """Let the file take each byte of an image as a code of its own.

    Values from -1 to 1 have no code of int8 for each of 256 bytes: 0 would lie between two of them. The network is
    given what lies half a step beside, and the bias of its first layer makes up for that.

    Raises:
        NotFound, BadInput: as for `read_graph`; or the file's first layer is no convolution of an int8 image.
    """
    graph = read_graph(path)
    readers = graph.readers.get(graph.inputs[0], [])
    first = graph.operators[readers[0]] if readers else None
    if first is None or len(readers) > 1 or first.kind != "CONV_2D" or graph.tensors[graph.inputs[0]].dtype != "int8":
        raise BadInput(f"{path}: its first layer is no convolution of an int8 image")
    zero_point = int(np.rint(-128 - spec.offset / spec.scale))
    offset = (-128 - zero_point) * spec.scale
    kernel = graph.tensors[first.inputs[1]]
    shift = (spec.offset - offset) * kernel.values().reshape(kernel.shape[0], -1).sum(axis=1)

    def change(_: Any, model: Any) -> None:
        tensors = model.subgraphs[0].tensors
        given = tensors[graph.inputs[0]].quantization
        given.scale, given.zeroPoint = [spec.scale], [zero_point]
        _refit_biases(model, graph)
        made = tensors[first.inputs[2]]
        scale = np.asarray(made.quantization.scale, np.float64)
        old = np.frombuffer(np.asarray(model.buffers[made.buffer].data, np.uint8).tobytes(), np.int32)
        _store(model, made, _whole(old + shift / scale))

    edit(path, change)


def _tied(path: Path, graph: Graph, tensor: int) -> set[int]:
    """The tensors that must have the scale of `tensor`, itself among them."""
    found, left = {tensor}, [tensor]
    while left:
        number = left.pop()
        maker = graph.maker.get(number)
        around = [*graph.readers.get(number, []), *([] if maker is None else [maker])]
        if maker is not None and graph.operators[maker].kind in _FIXED:
            raise BadInput(f"{path}: the scale of {graph.tensors[number].name!r} is given by its operator")
        for operator in (graph.operators[each] for each in around):
            if operator.kind in _TIED:
                ends = [n for n in (*operator.inputs, *operator.outputs) if n >= 0 and graph.tensors[n].quantized]
                new = {n for n in ends if graph.tensors[n].data is None} - found
                found |= new
                left += new
    return found


def _refit_biases(model: Any, graph: Graph) -> None:
    """Count each bias in steps of its input's scale times its kernel's, as the kernels of the runtime take it."""
    main = model.subgraphs[0]
    for operator in graph.operators:
        if operator.kind not in _BIASED or len(operator.inputs) < 3 or operator.inputs[2] < 0:
            continue
        given, kernel, bias = (main.tensors[number] for number in operator.inputs[:3])
        if graph.tensors[operator.inputs[2]].data is None or bias.quantization is None:
            continue
        new = np.asarray(given.quantization.scale, np.float64) * np.asarray(kernel.quantization.scale, np.float64)
        old = np.asarray(bias.quantization.scale, np.float64)
        if np.allclose(new, old, rtol=1e-5):
            continue
        counts = np.frombuffer(np.asarray(model.buffers[bias.buffer].data, np.uint8).tobytes(), np.int32)
        bias.quantization.scale = new.astype(np.float32)
        _store(model, bias, _whole(counts * (old / new)))


def _whole(values: NDArray[np.float64]) -> NDArray[np.int32]:
    ends = np.iinfo(np.int32)
    return np.clip(np.rint(values), ends.min, ends.max).astype(np.int32)


def _store(model: Any, tensor: Any, value: NDArray[Any]) -> None:
    """Put a constant into a buffer of its own: the converter lets tensors of equal content share one."""
    buffer = type(model.buffers[0])()
    buffer.data = np.frombuffer(np.ascontiguousarray(value).tobytes(), np.uint8)
    tensor.buffer = len(model.buffers)
    model.buffers.append(buffer)
