"""Runtimes behind one Protocol: a model file and an InputSpec in, logits out. Nothing is imported until chosen.

CPU runtimes run in the process that opens them. Accelerators run in one of their own, which can be killed: a native
call that is blocked cannot be cancelled in any other way.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput, LinesideError
from device_agent.contract.manifest import InputSpec
from device_agent.contract.plugins import Seam
from device_agent.runtimes.shape import first_line

RUNTIMES = Seam(
    "runtimes",
    {
        "edgetpu": "device_agent.runtimes.edgetpu:EdgeTPU",
        "litert": "device_agent.runtimes.litert:LiteRT",
        "onnx": "device_agent.runtimes.onnx:OnnxRuntime",
        "openvino": "device_agent.runtimes.openvino:OpenVINO",
        "tflite-runtime": "device_agent.runtimes.tflite_runtime:TFLiteRuntime",
        "fake": "device_agent.runtimes.fake:Fake",
    },
)


class Runtime(Protocol):
    """One loaded model. Not thread-safe.

    Constructed as `Runtime(path, spec, threads=1)`; raises `BadInput` for a model whose input or output has another
    shape, `MissingPackage` when the runtime is not installed. What else it raises, here or later, `open_runtime` says
    in one line. A class whose static method `is_accelerator(path)` is true of a model is opened in a process of its
    own.
    """

    name: str
    version: str
    classes: int

    def encode(self, image: NDArray[np.uint8]) -> NDArray[Any]:
        """Model input of an image (height, width, channels) uint8 from `preprocess.fit`: one table look-up."""
        ...

    def invoke(self, tensor: NDArray[Any]) -> NDArray[np.float32]:
        """Logits (classes,) float32, dequantized."""
        ...

    def close(self) -> None:
        """Release what the model holds."""
        ...


class _Guarded:
    """A runtime whose failures are a `LinesideError`, whatever its package raises."""

    def __init__(self, inner: Runtime) -> None:
        self._inner = inner
        self.name, self.version, self.classes = inner.name, inner.version, inner.classes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def encode(self, image: NDArray[np.uint8]) -> NDArray[Any]:
        """As the runtime within."""
        with _in_one_line(LinesideError, f"{self.name} failed to encode an image"):
            return self._inner.encode(image)

    def invoke(self, tensor: NDArray[Any]) -> NDArray[np.float32]:
        """As the runtime within."""
        with _in_one_line(LinesideError, f"{self.name} failed in an inference"):
            return self._inner.invoke(tensor)

    def close(self) -> None:
        """As the runtime within."""
        self._inner.close()


@contextmanager
def _in_one_line(kind: type[LinesideError], said: str) -> Iterator[None]:
    try:
        yield
    except LinesideError:
        raise
    except Exception as error:
        raise kind(f"{said}: {first_line(error)}") from error


def open_runtime(name: str, path: Path, spec: InputSpec, *, threads: int = 1) -> Runtime:
    """The named runtime with the model at `path` loaded; what its `encode` and `invoke` raise is a LinesideError.

    Raises:
        BadInput: no such runtime, or not a model that it can run.
        MissingPackage: the runtime's package is not installed.
        Unreachable: an accelerator that does not answer.
    """
    is_accelerator = getattr(RUNTIMES.load(name), "is_accelerator", None)
    if is_accelerator is not None and is_accelerator(path):
        from device_agent.runtimes.fenced import Fenced

        return Fenced(name, path, spec, threads=threads)
    return open_here(name, path, spec, threads=threads)


def open_here(name: str, path: Path, spec: InputSpec, *, threads: int = 1, **options: Any) -> Runtime:
    """As `open_runtime`, in this process whatever it is; `options` are the runtime's own.

    Raises:
        BadInput, MissingPackage, Unreachable: as for `open_runtime`.
    """
    load = RUNTIMES.load(name)
    with _in_one_line(BadInput, f"{path}: {name} cannot load it"):
        return _Guarded(load(path, spec, threads=threads, **options))


def logits(runtime: Runtime, image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Logits (classes,) float32 of one fitted image."""
    return runtime.invoke(runtime.encode(image))
