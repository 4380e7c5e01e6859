"""Several models timed in turn in one process, so that a busy machine is as busy for each of them."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

import msgspec
import numpy as np

from device_agent import preprocess
from device_agent.contract.manifest import InputSpec
from device_agent.measure import FRAME, Samples, Seconds, device_name, disturbances
from device_agent.runtimes import Runtime

BLOCK = 5


class Timed(msgspec.Struct, frozen=True, kw_only=True):
    """Median of `runs` inferences in ms with its 95 % interval, measured on `device` with one thread; `flags` say why
    the machine was not quiet."""

    p50_ms: float
    low_ms: float
    high_ms: float
    runs: int
    device: str
    flags: list[str] = []


def time_together(
    models: Mapping[str, tuple[Runtime, InputSpec]], *, seconds: float = 1.5, wall: Seconds = time.perf_counter
) -> dict[str, Timed]:
    """Time each model for about `seconds`, five inferences of one and then of the next, round by round.

    The interval is that of the median of the rounds' medians (order statistics), so that runs that were disturbed
    together count once.
    """
    frame = np.random.default_rng(0).integers(0, 256, FRAME, np.uint8)
    tensors = {name: model.encode(preprocess.fit(frame, spec)) for name, (model, spec) in models.items()}
    for name, (model, _) in models.items():
        for _ in range(2 * BLOCK):
            model.invoke(tensors[name])
    times: dict[str, list[list[float]]] = {name: [] for name in models}
    end = wall() + seconds * len(models)
    while wall() < end or len(next(iter(times.values()))) < 20:
        for name, (model, _) in models.items():
            block = []
            for _ in range(BLOCK):
                start = wall()
                model.invoke(tensors[name])
                block.append((wall() - start) * 1e3)
            times[name].append(block)
    return {name: _timed(blocks) for name, blocks in times.items()}


def _timed(blocks: list[list[float]]) -> Timed:
    medians, all_ = np.sort(np.median(blocks, axis=1)), np.ravel(blocks)
    reach = 1.96 * math.sqrt(len(medians)) / 2
    low, high = max(0, math.floor(len(medians) / 2 - reach)), min(len(medians) - 1, math.ceil(len(medians) / 2 + reach))
    return Timed(
        p50_ms=float(np.median(all_)),
        low_ms=min(float(medians[low]), float(np.median(all_))),
        high_ms=max(float(medians[high]), float(np.median(all_))),
        runs=len(all_),
        device=device_name(),
        flags=disturbances(Samples(list(all_), list(all_)), threads=1),
    )
