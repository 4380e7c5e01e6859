"""From scores to widths: how far the greedy search goes for a budget of MACs, size or measured latency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from device_agent.contract.manifest import InputSpec
from toolkit.compression.budget import Price, best_channels, spend, steps
from toolkit.compression.channels import Channels, Widths
from toolkit.compression.cost import Bill
from toolkit.compression.outcome import Request
from toolkit.compression.scores import Scores
from toolkit.compression.speed import in_turns, write_file
from toolkit.compression.surgery import cut


class Stopwatch:
    """The latency of cut networks as a share of their parent's, measured on an artifact: each is converted and timed
    beside it."""

    def __init__(self, parent: Any, name: str, spec: InputSpec, calibration: NDArray[np.uint8], folder: Path) -> None:
        self._name, self._spec, self._calibration, self._folder = name, spec, calibration, folder
        self._parent = write_file(parent, name, spec, calibration, folder / "parent")

    def share(self, model: Any) -> float:
        """Its p50 over the parent's."""
        file = write_file(model, self._name, self._spec, self._calibration, self._folder / "cut")
        before, after = in_turns([self._parent, file], self._spec, self._name, turns=1)
        return after.p50_ms / before.p50_ms


def select(
    model: Any,
    channels: Channels,
    scores: Scores,
    request: Request,
    floors: Mapping[str, int],
    limit: float,
    stopwatch: Stopwatch | None = None,
) -> dict[str, int]:
    """The widths of a network that is cut to a limit: of MACs, parameters, or a share of the parent's latency.

    Raises:
        BadInput: the limit cannot be met.
    """
    bill = Bill(channels)
    place = 1 if request.budget == "size" else 0
    price: Price = lambda widths: bill.cost(widths)[place]  # noqa: E731
    path = steps(channels.widths, scores, floors, price, request.align)
    if request.budget != "latency" or stopwatch is None:
        return spend(path, price, limit, "parameters" if place else "MACs")

    def share(widths: Widths) -> float:
        return stopwatch.share(cut(model, channels, best_channels(scores, widths)))

    return first_within(list(path), share, limit)


def first_within(path: Sequence[dict[str, int]], price: Price, limit: float) -> dict[str, int]:
    """The first widths on a path of falling prices that are within the limit, found by halving: few are priced.

    >>> first_within([{"a": 4}, {"a": 3}, {"a": 2}, {"a": 1}], lambda widths: widths["a"] / 4, 0.6)
    {'a': 2}

    Raises:
        BadInput: the last is over it.
    """
    low, high = 0, len(path) - 1
    if (least := price(path[high])) > limit:
        raise BadInput(f"a latency of {limit:.0%} of the parent's cannot be met: {least:.0%} is the least; allow more")
    while low < high:
        middle = (low + high) // 2
        if price(path[middle]) <= limit:
            high = middle
        else:
            low = middle + 1
    return path[high]
