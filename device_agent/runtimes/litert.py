"""LiteRT (TensorFlow Lite) on the CPU."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from device_agent import preprocess
from device_agent.contract.errors import BadInput
from device_agent.contract.manifest import InputSpec
from device_agent.contract.optional import require
from device_agent.runtimes.shape import look_up, read_shape, require_file


class Scale(NamedTuple):
    """An affine quantization: real = (integer - zero_point) * scale; scale None for a float tensor."""

    scale: float | None
    zero_point: int


class LiteRT:
    """A .tflite file: float32, or fully quantized with int8 or uint8 input and output."""

    name = "litert"
    package = "ai-edge-litert"

    def __init__(self, path: Path, spec: InputSpec, *, threads: int = 1) -> None:
        module = self._module()
        self.version = installed(self.package)
        delegates = self._delegates(module)
        with _silence():
            self._interpreter = module.Interpreter(
                model_path=str(require_file(path)), num_threads=threads, experimental_delegates=delegates
            )
            self._interpreter.allocate_tensors()
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        shape = read_shape(path, spec, [i["shape"] for i in inputs], [o["shape"] for o in outputs])
        self.classes = shape.classes
        self._spec = spec
        self._channels_first = shape.channels_first
        self._input, self._output = inputs[0]["index"], outputs[0]["index"]
        scale, zero_point = _read_scale(path, inputs[0])
        dtype = np.dtype(inputs[0]["dtype"]).name
        self._table = preprocess.table(spec, scale=scale, zero_point=zero_point, dtype=dtype)
        self._answer = _read_scale(path, outputs[0])

    def _module(self) -> ModuleType:
        """The module with the class Interpreter; a package of another name has it too."""
        return require(f"{self.package.replace('-', '_')}.interpreter", extra=f"agent-{self.name}")

    def _delegates(self, module: ModuleType) -> list[Any] | None:
        """What takes operators away from the CPU: nothing here."""
        return None

    def encode(self, image: NDArray[np.uint8]) -> NDArray[Any]:
        """Model input of a fitted image (height, width, channels) uint8."""
        return look_up(self._table, image, self._spec, channels_first=self._channels_first)

    def invoke(self, tensor: NDArray[Any]) -> NDArray[np.float32]:
        """Logits (classes,) float32, dequantized."""
        self._interpreter.set_tensor(self._input, tensor)
        self._interpreter.invoke()
        raw: NDArray[Any] = self._interpreter.get_tensor(self._output)[0]
        if self._answer.scale is None:
            return raw.astype(np.float32, copy=False)
        return (raw.astype(np.float32) - np.float32(self._answer.zero_point)) * np.float32(self._answer.scale)

    def close(self) -> None:
        """Release the interpreter."""
        self._interpreter = None


def installed(package: str) -> str:
    """The installed version of a package; "unknown" where its metadata are not there.

    >>> installed("no-such-package")
    'unknown'
    """
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _read_scale(path: Path, tensor: dict[str, Any]) -> Scale:
    dtype = np.dtype(tensor["dtype"])
    if dtype == np.float32:
        return Scale(None, 0)
    scale, zero_point = tensor["quantization"]
    if dtype not in (np.int8, np.uint8) or scale <= 0:
        raise BadInput(f"{path}: {tensor['name']} must be float32 or quantized int8 or uint8, got {dtype}")
    return Scale(float(scale), int(zero_point))


@contextmanager
def _silence() -> Iterator[None]:
    """LiteRT announces its delegate on file descriptor 2 and offers no switch; a failure comes as an exception."""
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)
