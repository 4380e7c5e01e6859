"""Learning rate over a training: linear warm-up, then half a cosine down to zero."""

from __future__ import annotations

import math


def rate(step: int, *, steps: int, warm_up: int, peak: float) -> float:
    """Learning rate of step 0 to steps - 1 (Loshchilov & Hutter 2017, SGDR, without restarts).

    >>> [round(rate(step, steps=6, warm_up=2, peak=1.0), 2) for step in range(6)]
    [0.5, 1.0, 1.0, 0.85, 0.5, 0.15]
    """
    if step < warm_up:
        return peak * (step + 1) / warm_up
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))
