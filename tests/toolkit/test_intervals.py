"""Intervals cover, and are wider where images of one group agree."""

from __future__ import annotations

import numpy as np
import pytest

from toolkit.intervals import group_bootstrap
from toolkit.metrics import macro_f1


def interval(groups: np.ndarray, right: np.ndarray) -> tuple[float, float]:
    labels = np.arange(len(right)) % 2
    predicted = np.where(right, labels, 1 - labels)
    return group_bootstrap(labels, predicted, groups, 2, rng=np.random.default_rng(0))[0]


def test_it_is_the_binomial_interval_when_every_image_is_a_group() -> None:
    low, high = interval(np.arange(400), np.arange(400) % 10 != 0)
    assert (low, high) == (pytest.approx(0.87, abs=0.012), pytest.approx(0.93, abs=0.012))


def test_groups_that_agree_make_it_wider() -> None:
    right = np.arange(400) // 20 % 10 != 0
    low, high = interval(np.arange(400) // 20, right)
    alone = interval(np.arange(400), right)
    assert high - low > 2 * (alone[1] - alone[0])


def test_macro_f1_lies_inside() -> None:
    rng = np.random.default_rng(3)
    labels = rng.choice(3, 300, p=[0.7, 0.2, 0.1])
    predicted = np.where(rng.random(300) < 0.8, labels, rng.integers(0, 3, 300))
    low, high = group_bootstrap(labels, predicted, np.arange(300), 3, rng=rng)[1]
    assert 0.5 < low < macro_f1(labels, predicted) < high < 1
