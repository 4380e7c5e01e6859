"""What the activations of the float network are on the calibration images: means, and ranges by several estimators."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from converters.tflite_file import Graph
from device_agent.contract.errors import BadInput
from device_agent.contract.optional import require

KEPT = 200_000
"""Values of a tensor that are kept to choose its range from, besides its extremes."""


class Seen(NamedTuple):
    """Of one tensor, over all images: the mean of each channel (channels,), the least and the largest value, and a
    sample of values (n,) in no order."""

    means: NDArray[np.float64]
    low: float
    high: float
    sample: NDArray[np.float32]


def observe(
    path: Path, graph: Graph, wanted: set[int], images: Iterator[NDArray[np.float32]], count: int
) -> dict[int, Seen]:
    """What the tensors `wanted` of the float file at `path` hold for `count` model inputs (1, h, w, c) float32."""
    module = require("ai_edge_litert.interpreter", extra="toolkit")
    interpreter = module.Interpreter(
        model_path=str(path),
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    rng, found = np.random.default_rng(0), {number: Statistics() for number in wanted}
    for image in images:
        interpreter.set_tensor(graph.inputs[0], image)
        interpreter.invoke()
        for number, statistics in found.items():
            statistics.add(interpreter.get_tensor(number), rng, count)
    return {number: statistics.seen() for number, statistics in found.items()}


class Statistics:
    """Of one tensor, gathered image by image."""

    def __init__(self) -> None:
        self.images = 0
        self.total: Any = 0.0
        self.low, self.high = np.inf, -np.inf
        self.sample: list[NDArray[np.float32]] = []

    def add(self, values: NDArray[np.float32], rng: np.random.Generator, count: int) -> None:
        """Take the values (..., channels) for one of `count` images."""
        share = KEPT // count + 1
        flat = values.reshape(-1, values.shape[-1])
        self.images += 1
        self.total = self.total + flat.mean(axis=0, dtype=np.float64)
        self.low, self.high = min(self.low, float(flat.min())), max(self.high, float(flat.max()))
        self.sample.append(rng.choice(flat.ravel(), min(share, flat.size), replace=False))

    def seen(self) -> Seen:
        """What was gathered."""
        return Seen(self.total / self.images, self.low, self.high, np.concatenate(self.sample))


def minmax(seen: Seen) -> tuple[float, float]:
    """The extremes."""
    return seen.low, seen.high


def percentile(seen: Seen) -> tuple[float, float]:
    """All but the outermost 0.01 % at either end (Wu et al. 2020, Integer quantization for deep learning inference)."""
    low, high = np.quantile(seen.sample, [1e-4, 1 - 1e-4])
    return float(low), float(high)


def least_squares(seen: Seen) -> tuple[float, float]:
    """The share of the extremes with the least mean squared error of rounding and clipping together."""
    shares = np.geomspace(0.2, 1.0, 40)
    errors = [_error(seen, share) for share in shares]
    best = shares[int(np.argmin(errors))]
    return float(seen.low * best), float(seen.high * best)


def _error(seen: Seen, share: float) -> float:
    low, high = min(seen.low * share, 0.0), max(seen.high * share, 1e-12)
    step = (high - low) / 255
    rounded = np.clip(np.rint((seen.sample - low) / step), 0, 255) * step + low
    return float(np.mean((rounded - seen.sample) ** 2))


ESTIMATORS: dict[str, Callable[[Seen], tuple[float, float]]] = {
    "minmax": minmax,
    "percentile": percentile,
    "mse": least_squares,
}


def estimator(name: str) -> Callable[[Seen], tuple[float, float]]:
    """The range estimator of that name.

    Raises:
        BadInput: no such estimator.
    """
    if name not in ESTIMATORS:
        raise BadInput(f"no range estimator {name!r}; known are {', '.join(ESTIMATORS)}")
    return ESTIMATORS[name]
