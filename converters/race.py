"""Two model files in one run, turn by turn: how much longer one takes than the other on this machine, now."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.manifest import InputSpec
from device_agent.runtimes import Runtime, open_runtime

ROUNDS, RUNS = 40, 8
QUANTILE = 0.2  # neighbours on the machine make some runs slower, none faster


class Times(NamedTuple):
    """Milliseconds of a quick inference of each, one thread, measured here; `ratio` is one / other."""

    one_ms: float
    other_ms: float

    @property
    def ratio(self) -> float:
        """How many times as long the first takes."""
        return self.one_ms / self.other_ms


def race(runtime: str, one: Path, other: Path, spec: InputSpec, image: NDArray[np.uint8]) -> Times:
    """Times of two files of one runtime on an image (h, w, c) uint8 fitted to `spec`."""
    models = [open_runtime(runtime, path, spec) for path in (one, other)]
    try:
        return Times(*_take_turns(models, image))
    finally:
        for model in models:
            model.close()


def _take_turns(models: list[Runtime], image: NDArray[np.uint8]) -> list[float]:
    inputs, taken = [model.encode(image) for model in models], np.zeros((len(models), ROUNDS, RUNS))
    for turn in range(ROUNDS):
        for number, (model, tensor) in enumerate(zip(models, inputs, strict=True)):
            model.invoke(tensor)  # fills the caches again
            for repeat in range(RUNS):
                start = time.perf_counter()
                model.invoke(tensor)
                taken[number, turn, repeat] = time.perf_counter() - start
    return [float(each) for each in 1000 * np.quantile(taken.reshape(len(models), -1), QUANTILE, axis=1)]
