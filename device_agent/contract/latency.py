"""The latency histogram: 32 buckets, each sqrt(2) wide, from 100 us to 6.5 s, additive."""

from __future__ import annotations

import math
from collections.abc import Iterable

BUCKETS = 32
FIRST_US = 100.0


def bucket_of(microseconds: float) -> int:
    """Bucket 0 to 31; bucket k begins at 100 us x sqrt(2)^k, the first and the last one are open.

    >>> [bucket_of(us) for us in (0, 100, 150, 1_000, 10_000_000)]
    [0, 0, 1, 6, 31]
    """
    if microseconds <= FIRST_US:
        return 0
    return min(BUCKETS - 1, math.floor(2 * math.log2(microseconds / FIRST_US)))


def upper_ms(bucket: int) -> float:
    """Upper edge of a bucket in milliseconds.

    >>> round(upper_ms(31))
    6554
    """
    return FIRST_US / 1e3 * math.sqrt(2) ** (bucket + 1)


def quantile_ms(counts: Iterable[int], q: float) -> float | None:
    """Upper edge of the bucket that holds quantile q in [0, 1], in ms; None when nothing was counted.

    >>> round(quantile_ms([0, 9, 0, 1], 0.5), 3), quantile_ms([], 0.5)
    (0.2, None)
    """
    counts = list(counts)
    total, seen = sum(counts), 0
    for bucket, count in enumerate(counts):
        seen += count
        if count and seen >= q * total:
            return upper_ms(bucket)
    return None
