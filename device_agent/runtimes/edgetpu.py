"""The Edge TPU (Coral), as a delegate of TensorFlow Lite."""

from __future__ import annotations

import ctypes
from pathlib import Path
from types import ModuleType
from typing import Any

from device_agent.contract.errors import BadInput, MissingPackage, Unreachable
from device_agent.contract.manifest import InputSpec
from device_agent.contract.optional import require
from device_agent.runtimes.litert import LiteRT
from device_agent.runtimes.shape import first_line, require_file

LIBRARY = "libedgetpu.so.1"
PACKAGES = ("tflite-runtime", "ai-edge-litert")
"""In the order of preference: the library is built against the TensorFlow Lite of the first."""
COMPILED = b"edgetpu-custom-op"


class EdgeTPU(LiteRT):
    """A .tflite file from edgetpu_compiler.

    Any other file would run on the CPU without a word and is refused, unless `plain` allows it: then the delegate is
    loaded all the same, which shows that library and device are there.
    """

    name = "edgetpu"

    def __init__(self, path: Path, spec: InputSpec, *, threads: int = 1, plain: bool = False) -> None:
        if not plain and COMPILED not in require_file(path).read_bytes():
            raise BadInput(f"{path}: is not compiled for the Edge TPU: run edgetpu_compiler on the int8 file")
        super().__init__(path, spec, threads=threads)

    @staticmethod
    def is_accelerator(_path: Path) -> bool:
        """Always: `open_runtime` runs it in a process of its own."""
        return True

    def _module(self) -> ModuleType:
        for self.package in PACKAGES:
            try:
                return require(f"{self.package.replace('-', '_')}.interpreter", extra="agent-litert")
            except MissingPackage as error:
                missing = error
        raise MissingPackage(
            'edgetpu needs tflite_runtime or ai_edge_litert: pip install "lineside[agent-litert]"'
        ) from missing

    def _delegates(self, module: ModuleType) -> list[Any] | None:
        try:
            ctypes.CDLL(LIBRARY)  # first, because a Delegate without a library complains again when it is deleted
            return [module.load_delegate(LIBRARY)]
        except OSError as error:
            raise MissingPackage(
                f"edgetpu: {first_line(error)}; apt install libedgetpu1-std, from Coral's archive"
            ) from error
        except ValueError as error:  # the library says nothing more
            raise Unreachable(
                "edgetpu: no Edge TPU answers: plug it in, and see that this user may open it (group plugdev for USB, "
                "apex for PCIe)"
            ) from error
