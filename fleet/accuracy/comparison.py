"""Two models on the same labelled parts."""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec

from device_agent.contract.errors import BadInput
from fleet.accuracy.intervals import binomial_tail


class McNemar(msgspec.Struct, frozen=True):
    """Parts that only A or only B answers rightly, of `parts` that both saw. `p` is two-sided and exact (McNemar 1947,
    binomial); `difference` is B's accuracy less A's, with 95 % limits (Agresti and Min 2005). Measured."""

    parts: int
    only_a: int
    only_b: int
    p: float
    difference: float
    low: float
    high: float


def mcnemar(pairs: Iterable[tuple[bool, bool]]) -> McNemar:
    """Compare two models by whether each is right on the same parts: pairs (A right, B right).

    >>> mcnemar([(True, False)] * 2 + [(False, True)] * 12 + [(True, True)] * 86)
    McNemar(parts=100, only_a=2, only_b=12, p=0.0129, difference=0.1, low=0.0261, high=0.17)

    Raises:
        BadInput: no pair.
    """
    parts = only_a = only_b = 0
    for right_a, right_b in pairs:
        parts += 1
        only_a += right_a and not right_b
        only_b += right_b and not right_a
    if not parts:
        raise BadInput("accuracy: no part was answered by both models")
    differ = only_a + only_b
    p = min(1.0, 2 * binomial_tail(max(only_a, only_b), differ, 0.5)) if differ else 1.0
    n, a, b = parts + 2, only_a + 0.5, only_b + 0.5
    middle = (b - a) / n
    spread = 1.959964 * math.sqrt((a + b) - (b - a) ** 2 / n) / n
    low, high = max(middle - spread, -1.0), min(middle + spread, 1.0)
    return McNemar(parts, only_a, only_b, round(p, 4), (only_b - only_a) / parts, round(low, 4), round(high, 4))
