"""Runtimes behind one Protocol: a model file and an InputSpec in, logits out. Nothing is imported until chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.manifest import InputSpec
from device_agent.contract.plugins import Seam

RUNTIMES = Seam(
    "runtimes",
    {
        "litert": "device_agent.runtimes.litert:LiteRT",
        "onnx": "device_agent.runtimes.onnx:OnnxRuntime",
        "openvino": "device_agent.runtimes.openvino:OpenVINO",
        "fake": "device_agent.runtimes.fake:Fake",
    },
)


class Runtime(Protocol):
    """One loaded model. Not thread-safe.

    Constructed as `Runtime(path, spec, threads=1)`; raises `BadInput` for a file that it cannot load or whose input or
    output has another shape, `MissingPackage` when the runtime is not installed.
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


def open_runtime(name: str, path: Path, spec: InputSpec, *, threads: int = 1) -> Runtime:
    """The named runtime with the model at `path` loaded.

    Raises:
        BadInput: no such runtime, or not a model that it can run.
        MissingPackage: the runtime's package is not installed.
    """
    runtime: Runtime = RUNTIMES.load(name)(path, spec, threads=threads)
    return runtime


def logits(runtime: Runtime, image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Logits (classes,) float32 of one fitted image."""
    return runtime.invoke(runtime.encode(image))
