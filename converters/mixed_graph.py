"""A quantized .tflite file written again with some of its operators computed in float: the float network that it stands
for, the network in which one layer alone is rounded, and the mixed one that keeps a layer in float.

An operator that becomes float reads float tensors and constants; where integers and floats meet, QUANTIZE and
DEQUANTIZE are put between. All of it is done on the file, so that a file from elsewhere is as good as one of our own.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.tflite_file import Graph, Operator, edit, read_graph
from device_agent.contract.errors import BadInput

INPUT = -1
"""Stands for the graph's input among the layers that are rounded."""
_CASTS = {"QUANTIZE", "DEQUANTIZE"}
Floats = Mapping[int, NDArray[np.float32]]


@dataclass(frozen=True)
class Mix:
    """Which operators, by number, stay in `integers`; of the others, which have their outputs `rounded` to the scale of
    the file, and which take the file's rounded `weights` instead of the true ones. With `float_input` the network takes
    floats; the activation tensors in `shown`, by their number in the file, become outputs of the network too."""

    integers: frozenset[int] = frozenset()
    rounded: frozenset[int] = frozenset()
    weights: frozenset[int] = frozenset()
    float_input: bool = True
    shown: frozenset[int] = frozenset()


def write_mixed(source: Path, target: Path, mix: Mix, floats: Floats, *, graph: Graph | None = None) -> dict[int, int]:
    """Write the file `source` with that mix to `target`; where each of its activation tensors is found there. `graph`
    is that of the source, if it was read before.

    `floats` are true values of constants by the number of the tensor; what is not in it is taken from the integers.

    Raises:
        NotFound, BadInput: as for `read_graph`; or an operator whose kind has no float form.
    """
    graph = read_graph(source) if graph is None else graph
    custom = next((each.kind for each in graph.operators if each.custom), None)
    if custom is not None:
        raise BadInput(f"{source}: holds {custom}, which nothing but its own device can compute")
    shutil.copyfile(source, target)
    places: dict[int, int] = {}

    def change(schema: Any, model: Any) -> None:
        places.update(_Mixer(schema, model, graph, mix, floats).write())

    edit(target, change)
    return places


def true_constants(stored: Graph, trained: Graph) -> dict[int, NDArray[np.float32]]:
    """The float constants of `trained` for the constants of `stored`, whose operators with constants stand in the same
    order; empty where the two do not belong together.

    They belong together when every kernel is the other one rounded: of the same shape and less than half of it off.
    """
    pairs = [_constants(graph) for graph in (stored, trained)]
    if [kind for kind, _ in pairs[0]] != [kind for kind, _ in pairs[1]]:
        return {}
    found = {}
    for (_, mine), (_, theirs) in zip(*pairs, strict=True):
        for at, number in mine.items():
            true = trained.tensors[theirs[at]].values() if at in theirs else None
            if true is None or true.shape != stored.tensors[number].shape:
                return {}
            if true.ndim > 1 and np.linalg.norm(true - stored.tensors[number].values()) > 0.5 * np.linalg.norm(true):
                return {}
            found[number] = true
    return found


def _constants(graph: Graph) -> list[tuple[str, dict[int, int]]]:
    """Kind of each operator with real-valued constants, and their tensors by the place among its inputs."""
    found = []
    for operator in graph.operators:
        tensors = {at: number for at, number in enumerate(operator.inputs) if number >= 0}
        real = {at: n for at, n in tensors.items() if graph.tensors[n].data is not None and _is_real(graph, n)}
        if real:
            found.append((operator.kind, real))
    return found


def _is_real(graph: Graph, number: int) -> bool:
    return graph.tensors[number].quantized or graph.tensors[number].dtype == "float32"


@dataclass
class _Mixer:
    schema: Any
    model: Any
    graph: Graph
    mix: Mix
    floats: Floats
    operators: list[Any] = field(default_factory=list)
    as_float: dict[int, int] = field(default_factory=dict)  # tensor -> the float tensor that is read for it
    as_integer: set[int] = field(default_factory=set)  # tensors that have been computed in integers
    constants: dict[tuple[int, bool], int] = field(default_factory=dict)

    def write(self) -> dict[int, int]:
        main = self.model.subgraphs[0]
        self.main = main
        main.inputs = [self._take_input(number) for number in self.graph.inputs]
        for number, (operator, made) in enumerate(zip(self.graph.operators, list(main.operators), strict=True)):
            if number in self.mix.integers:
                self._keep(operator, made)
            else:
                self._make_float(number, operator, made)
        places = {
            tensor: self._found(tensor)
            for tensor in [*self.graph.inputs, *(each for one in self.graph.operators for each in one.outputs)]
        }
        last = [places[number] for number in self.graph.outputs]
        shown = dict.fromkeys(place for tensor, place in places.items() if tensor in self.mix.shown)
        main.outputs = last + [place for place in shown if place not in last and place not in main.inputs]
        main.operators = self.operators
        self.model.signatureDefs = []
        return places

    def _take_input(self, number: int) -> int:
        if not (self.mix.float_input and self.graph.tensors[number].quantized):
            self.as_integer.add(number)
            return number
        self.as_float[number] = self._new_float(number)
        return self.as_float[number]

    def _keep(self, operator: Operator, made: Any) -> None:
        for number in dict.fromkeys(operator.inputs):
            if number >= 0 and self.graph.tensors[number].data is None and self.graph.tensors[number].quantized:
                self._ensure_integer(number)
        made.inputs = [self.as_float.get(n, n) if n >= 0 and not self._quantized(n) else n for n in operator.inputs]
        self.operators.append(made)
        self.as_integer.update(operator.outputs)

    def _make_float(self, number: int, operator: Operator, made: Any) -> None:
        if operator.kind in _CASTS:
            self.as_float[operator.outputs[0]] = self._float(operator.inputs[0], number)
            return
        made.inputs = [each if each < 0 else self._float(each, number) for each in operator.inputs]
        made.outputs = [self._new_float(each) if self._quantized(each) else each for each in operator.outputs]
        self.operators.append(made)
        for old, new in zip(operator.outputs, made.outputs, strict=True):
            self.as_float[old] = int(new)
            if number in self.mix.rounded and self._quantized(old):
                self._round(old)

    def _quantized(self, number: int) -> bool:
        return self.graph.tensors[number].quantized

    def _float(self, number: int, reader: int) -> int:
        """The tensor that a float operator reads in the place of `number`."""
        tensor = self.graph.tensors[number]
        if tensor.data is not None:
            return self._constant(number, reader in self.mix.weights) if tensor.quantized else number
        if number not in self.as_float and tensor.quantized:
            self.as_float[number] = self._new_float(number)
            self._cast("DEQUANTIZE", number, self.as_float[number])
        return self.as_float.get(number, number)

    def _constant(self, number: int, stored: bool) -> int:
        """A float constant; a bias is never taken as it is stored, since a bias may make up for other layers."""
        tensor = self.graph.tensors[number]
        stored = stored and len(tensor.shape) > 1
        if (number, stored) not in self.constants:
            true = self.floats.get(number)
            value = tensor.values() if stored or true is None else true
            buffer = self.schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(value, np.float32).tobytes(), np.uint8)
            self.model.buffers.append(buffer)
            place = self._new_float(number)
            self.main.tensors[place].buffer = len(self.model.buffers) - 1
            self.constants[number, stored] = place
        return self.constants[number, stored]

    def _ensure_integer(self, number: int) -> None:
        if number not in self.as_integer:
            self._cast("QUANTIZE", self.as_float[number], number)
            self.as_integer.add(number)

    def _round(self, number: int) -> None:
        self._ensure_integer(number)
        rounded = self._new_float(number)
        self._cast("DEQUANTIZE", number, rounded)
        self.as_float[number] = rounded

    def _found(self, number: int) -> int:
        whole = number in self.as_integer and number not in self.as_float
        return number if whole else self.as_float.get(number, number)

    def _new_float(self, number: int) -> int:
        made = copy.copy(self.main.tensors[number])
        made.type, made.buffer, made.quantization = self.schema.TensorType.FLOAT32, 0, None
        self.main.tensors.append(made)
        return len(self.main.tensors) - 1

    def _cast(self, kind: str, source: int, target: int) -> None:
        made = self.schema.OperatorT()
        made.opcodeIndex, made.inputs, made.outputs = self._code(kind), [source], [target]
        self.operators.append(made)

    def _code(self, kind: str) -> int:
        builtin = getattr(self.schema.BuiltinOperator, kind)
        for at, code in enumerate(self.model.operatorCodes):
            if max(code.builtinCode, code.deprecatedBuiltinCode) == builtin:
                return at
        code = self.schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = builtin
        code.version = 2  # the first that knows int8
        self.model.operatorCodes.append(code)
        return len(self.model.operatorCodes) - 1
