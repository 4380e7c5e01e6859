"""Learning rate over a training: linear warm-up, then by cosine, in steps, or where validation no longer gains."""

from __future__ import annotations

import math
from collections.abc import Sequence

STEPS = (0.5, 0.75)  # of the training, at which "step" divides the rate by 10 (He et al. 2016, on CIFAR)
STEP_FACTOR = 0.1
PLATEAU_FACTOR = 0.3


def rate(step: int, *, steps: int, warm_up: int, peak: float, shape: str = "cosine", drops: int = 0) -> float:
    """Learning rate of step 0 to steps - 1: "cosine" (Loshchilov & Hutter 2017, SGDR, without restarts), "step", or
    "plateau", which has fallen `drops` times so far.

    >>> [round(rate(step, steps=6, warm_up=2, peak=1.0), 2) for step in range(6)]
    [0.5, 1.0, 1.0, 0.85, 0.5, 0.15]
    >>> [round(rate(step, steps=8, warm_up=2, peak=1.0, shape="step"), 3) for step in range(8)]
    [0.5, 1.0, 1.0, 1.0, 0.1, 0.1, 0.01, 0.01]
    """
    if step < warm_up:
        return peak * (step + 1) / warm_up
    if shape == "plateau":
        return peak * PLATEAU_FACTOR**drops
    if shape == "step":
        return peak * STEP_FACTOR ** sum(step >= share * steps for share in STEPS)
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))


def plateaus(gains: Sequence[bool], patience: int) -> int:
    """How often the rate has fallen after epochs that were a gain or not: once for every `patience` in a row that were
    none. It is read off the history, so that a training which goes on needs no state for it.

    >>> plateaus([True, False, False, True, False, False, False, False], 2)
    3
    """
    drops = waited = 0
    for gain in gains:
        waited = 0 if gain else waited + 1
        if waited == patience:
            drops, waited = drops + 1, 0
    return drops
