"""Which of many reports are sound: the checks of `read_report`, for a whole batch at once."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.histogram import BINS, BINS_ID, MOST_CLASSES
from device_agent.contract.latency import BUCKETS
from device_agent.contract.report import DeviceReport

MOST_COUNT = 2**40
Flags = NDArray[np.bool_]
Numbers = NDArray[np.int64]


def sound(reports: list[DeviceReport]) -> Flags:
    """(n,) whether each report passes every check. Those that do not are for `read_report`, which says why; so are
    those with a shadow or a merged range, which are few."""
    if not reports:
        return np.zeros(0, np.bool_)
    few = ((one.frames, one.same, one.identical, one.parts, one.histogram.classes) for one in reports)
    try:
        frames, same, identical, parts, classes = np.fromiter(chain.from_iterable(few), np.int64).reshape(-1, 5).T
        where, counts, sizes = _pairs([one.histogram.cells for one in reports])
        latency = [one.latency for one in reports]
        buckets, _, stages = _pairs(list(chain.from_iterable(latency)))
    except OverflowError:
        return np.zeros(len(reports), np.bool_)
    plain = [one.merged is None and one.shadow is None and one.histogram.bins_id == BINS_ID for one in reports]
    good = np.array(plain) & (classes >= 1) & (classes <= MOST_CLASSES)
    good &= (same <= frames) & (identical <= frames) & (parts <= frames) & (sizes >= 0)
    held = np.maximum(sizes, 0)
    owner = np.repeat(np.arange(len(reports)), held)
    wrong = (where < 0) | (where >= (classes * BINS)[owner]) | (counts < 1) | (counts > MOST_COUNT)
    wrong[1:] |= (np.diff(where) <= 0) & (np.diff(owner) == 0)
    good[owner[wrong]] = False
    good &= np.bincount(owner, np.where(wrong, 0, counts), len(reports)).astype(np.int64) == frames
    of_report = np.repeat(np.arange(len(reports)), _lengths(latency))
    good[of_report[stages < 0]] = False
    good[np.repeat(of_report, np.maximum(stages, 0))[buckets >= BUCKETS]] = False
    return good


def _lengths(lists: Sequence[Sized]) -> Numbers:
    return np.fromiter(map(len, lists), np.int64, len(lists))


def _pairs(flat: list[list[int]]) -> tuple[Numbers, Numbers, Numbers]:
    """Keys and counts of all lists one after the other, and how many pairs each list has, -1 for one that is odd, whose
    numbers are left out."""
    lengths = _lengths(flat)
    odd = (lengths & 1).astype(np.bool_)
    even = [one for one in flat if not len(one) & 1] if odd.any() else flat
    numbers = np.fromiter(chain.from_iterable(even), np.int64, int(lengths[~odd].sum()))
    return numbers[::2], numbers[1::2], np.where(odd, -1, lengths // 2)
