"""TensorFlow Lite from the package tflite-runtime: 32-bit Arm boards, for which there is no other."""

from __future__ import annotations

from types import ModuleType

import numpy as np

from device_agent.contract.errors import MissingPackage
from device_agent.runtimes.litert import LiteRT


class TFLiteRuntime(LiteRT):
    """A .tflite file as for LiteRT, through the older package, which knows numpy below 2 only."""

    name = "tflite-runtime"
    package = "tflite-runtime"

    def _module(self) -> ModuleType:
        try:
            return super()._module()
        except MissingPackage as error:
            there = not isinstance(error.__cause__, ModuleNotFoundError)
            if there and int(np.__version__.partition(".")[0]) >= 2:
                raise MissingPackage(
                    f'tflite_runtime needs numpy below 2, {np.__version__} is installed: pip install "numpy<2"'
                ) from error
            raise
