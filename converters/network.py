"""A .tflite file opened to look into: what each tensor that it shows holds after an image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.console import held_back
from device_agent import preprocess
from device_agent.contract.errors import BadInput
from device_agent.contract.manifest import InputSpec
from device_agent.contract.optional import require


class Network:
    """A .tflite file, opened to look into; `table` (256,) is what it gets for each byte, if not what `spec` says."""

    def __init__(self, interpreter: Any, spec: InputSpec, table: NDArray[np.float32] | None = None) -> None:
        self._interpreter = interpreter
        details = interpreter.get_input_details()[0]
        self._input = details["index"]
        quantized = len(details["quantization_parameters"]["scales"]) > 0
        scale, zero_point = details["quantization"]
        dtype = np.dtype(details["dtype"]).name
        usual = preprocess.table(spec, scale=scale if quantized else None, zero_point=zero_point, dtype=dtype)
        self._table = usual if table is None else table
        self._output = interpreter.get_output_details()[0]["index"]
        self._scales = {each["index"]: each["quantization"] for each in interpreter.get_output_details()}

    def run(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The answer (classes,) to an image (h, w, c) uint8."""
        self._interpreter.set_tensor(self._input, self._table[image][None])
        self._interpreter.invoke()
        return self.value(self._output).ravel()

    def value(self, place: int) -> NDArray[np.float32]:
        """What the last run left in an output or the input, float32, dequantized."""
        raw = self._interpreter.get_tensor(place)
        if raw.dtype == np.float32:
            return np.asarray(raw)
        scale, zero_point = self._scales.get(place) or self._interpreter.get_input_details()[0]["quantization"]
        return np.asarray((raw.astype(np.float32) - np.float32(zero_point)) * np.float32(scale or 1))


def open_network(path: Path, spec: InputSpec, table: NDArray[np.float32] | None = None) -> Network:
    """The file at `path`, opened by LiteRT with its own kernels; `table` as for `Network`.

    Raises:
        BadInput: LiteRT cannot run it, or it is for images of another size.
    """
    module = require("ai_edge_litert.interpreter", extra="agent-litert")
    with held_back():
        try:
            interpreter = module.Interpreter(model_content=path.read_bytes(), num_threads=1)
            interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise BadInput(f"{path}: litert cannot load it: {str(error).splitlines()[0].lower()}") from error
    shape = tuple(int(size) for size in interpreter.get_input_details()[0]["shape"])
    if shape != (1, spec.height, spec.width, spec.channels):
        raise BadInput(f"{path}: takes {shape}, the images are (1, {spec.height}, {spec.width}, {spec.channels})")
    return Network(interpreter, spec, table)
