"""The greedy search: what costs least for what it saves goes first, to multiples, never under the floor."""

from __future__ import annotations

import numpy as np
import pytest

from device_agent.contract.errors import BadInput
from toolkit.compression.budget import best_channels, spend, steps
from toolkit.compression.channels import Widths
from toolkit.compression.selection import first_within

WIDTHS = {"image": 3, "a": 16, "b": 16}
PRICES = {"image": 0.0, "a": 1.0, "b": 4.0}


def price(widths: Widths) -> float:
    return sum(PRICES[name] * width for name, width in widths.items())


def test_steps_go_where_a_score_saves_most() -> None:
    scores = {"a": np.full(16, 1.0), "b": np.full(16, 2.0)}  # b scores twice and saves four times as much
    path = list(steps(WIDTHS, scores, {"a": 8, "b": 8}, price, 4))
    assert [(each["a"], each["b"]) for each in path] == [(16, 16), (16, 12), (16, 8), (12, 8), (8, 8)]


def test_the_first_step_goes_to_a_multiple() -> None:
    path = list(steps({"a": 13}, {"a": np.ones(13)}, {"a": 1}, lambda widths: widths["a"], 4))
    assert [each["a"] for each in path] == [13, 12, 8, 4]


def test_the_lowest_scores_are_counted() -> None:
    scores = {"a": np.array([9.0] * 4 + [0.0] * 4), "b": np.full(8, 1.0)}
    path = list(steps({"a": 8, "b": 8}, scores, {"a": 4, "b": 4}, lambda widths: widths["a"] + widths["b"], 4))
    assert path[1] == {"a": 4, "b": 8}, "four channels of a score nothing, whatever the others do"


def test_a_budget_is_met_by_as_little_as_possible() -> None:
    path = [{"a": 16, "b": 16}, {"a": 16, "b": 12}, {"a": 16, "b": 8}]
    assert spend(iter(path), price, 70, "MACs") == {"a": 16, "b": 12}
    assert spend(iter(path), price, 80, "MACs") == {"a": 16, "b": 16}
    with pytest.raises(BadInput, match="a budget of 40 MACs cannot be met: 48 is the least"):
        spend(iter(path), price, 40, "MACs")


def test_the_best_channels_stay_in_their_order() -> None:
    scores = {"a": np.array([0.1, 5.0, 0.2, 3.0])}
    assert best_channels(scores, {"a": 2})["a"].tolist() == [1, 3]
    assert best_channels(scores, {"a": 4})["a"].tolist() == [0, 1, 2, 3]


def test_halving_prices_few() -> None:
    asked: list[int] = []
    path = [{"a": width} for width in range(64, 0, -1)]

    def share(widths: Widths) -> float:
        asked.append(widths["a"])
        return widths["a"] / 64

    assert first_within(path, share, 0.5) == {"a": 32}
    assert len(asked) <= 8
    with pytest.raises(BadInput, match="a latency of 1% of the parent's cannot be met: 2% is the least"):
        first_within(path, share, 0.01)
