"""Several models timed in turn in one process, so that a busy machine is as busy for each of them."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent import preprocess
from device_agent.contract.manifest import InputSpec
from device_agent.measure import FRAME, Samples, Seconds, device_name, disturbances
from device_agent.runtimes import Runtime

BLOCK = 5


class Timed(msgspec.Struct, frozen=True, kw_only=True):
    """Median of `runs` inferences in ms with its 95 % interval, measured on `device` with one thread; `more_ms` is the
    difference to the first model, with its interval, in the rounds that both ran in; `flags` say why the machine was
    not quiet."""

    p50_ms: float
    low_ms: float
    high_ms: float
    more_ms: float
    more_low_ms: float
    more_high_ms: float
    runs: int
    device: str
    flags: list[str] = []

    @property
    def differs(self) -> bool:
        """Whether the difference to the first model is beyond its noise."""
        return self.more_low_ms > 0 or self.more_high_ms < 0


def time_together(
    models: Mapping[str, tuple[Runtime, InputSpec]], *, seconds: float = 1.5, wall: Seconds = time.perf_counter
) -> dict[str, Timed]:
    """Time each model for about `seconds`, five inferences of one and then of the next, round by round, in an order
    drawn anew for each, after one that fills the caches.

    The difference to the first is taken round by round, of the fastest of the five: what another program took from one
    of them does not count, what slows the whole machine counts for both. Intervals are those of the median of the
    rounds (order statistics), so that runs that were disturbed together count once.
    """
    frame = np.random.default_rng(0).integers(0, 256, FRAME, np.uint8)
    tensors = {name: model.encode(preprocess.fit(frame, spec)) for name, (model, spec) in models.items()}
    for name, (model, _) in models.items():
        for _ in range(2 * BLOCK):
            model.invoke(tensors[name])
    times: dict[str, list[list[float]]] = {name: [] for name in models}
    end, order = wall() + seconds * len(models), np.random.default_rng(0)
    while wall() < end or len(next(iter(times.values()))) < 20:
        for name in order.permutation(list(models)):
            model, block = models[name][0], []
            model.invoke(tensors[name])
            for _ in range(BLOCK):
                start = wall()
                model.invoke(tensors[name])
                block.append((wall() - start) * 1e3)
            times[name].append(block)
    first = np.array(next(iter(times.values())))
    return {name: _timed(np.array(blocks), first) for name, blocks in times.items()}


def _timed(blocks: NDArray[np.float64], first: NDArray[np.float64]) -> Timed:
    p50, (low, high) = float(np.median(blocks)), _interval(np.median(blocks, axis=1))
    more = blocks.min(axis=1) - first.min(axis=1)
    more_low, more_high = _interval(more)
    return Timed(
        p50_ms=p50,
        low_ms=min(low, p50),
        high_ms=max(high, p50),
        more_ms=float(np.median(more)),
        more_low_ms=more_low,
        more_high_ms=more_high,
        runs=blocks.size,
        device=device_name(),
        flags=disturbances(Samples(blocks.ravel().tolist(), blocks.ravel().tolist()), threads=1),
    )


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """95 % interval of a median, from the order statistics."""
    ordered, reach = np.sort(values), 1.96 * math.sqrt(len(values)) / 2
    low, high = max(0, math.floor(len(values) / 2 - reach)), min(len(values) - 1, math.ceil(len(values) / 2 + reach))
    return float(ordered[low]), float(ordered[high])
