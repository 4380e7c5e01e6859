"""Intervals cover, and are wider where images of one group agree."""

from __future__ import annotations

import numpy as np
import pytest

from converters.macro_f1 import count
from toolkit.evaluation.intervals import (
    count_interval,
    group_bootstrap,
    group_counts,
    inverted_interval,
    mean_recall,
    share_interval,
)
from toolkit.evaluation.metrics import macro_f1


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


def test_answers_that_were_all_right_are_not_certain_to_stay_so() -> None:
    labels = np.arange(6) % 2
    accuracy, f1 = group_bootstrap(labels, labels, np.arange(6), 2, rng=np.random.default_rng(0))
    assert accuracy == (pytest.approx(0.61, abs=0.01), 1.0)
    assert 0.4 < f1[0] < 0.8 and f1[1] == 1


def test_a_group_that_was_right_is_worth_one_image() -> None:
    labels = np.arange(60) % 2
    low = group_bootstrap(labels, labels, np.arange(60) // 10, 2, rng=np.random.default_rng(0))[0][0]
    assert low == pytest.approx(0.61, abs=0.01)


@pytest.mark.parametrize(
    ("images", "size", "right", "classes"), [(30, 1, 0.97, 2), (30, 1, 0.8, 2), (200, 1, 0.97, 7), (150, 5, 0.95, 5)]
)
def test_95_of_100_intervals_hold_the_true_share(images: int, size: int, right: float, classes: int) -> None:
    rng = np.random.default_rng(1)
    groups = np.arange(images) // size
    held = np.zeros(2)
    for _ in range(300):
        labels = np.repeat(rng.integers(0, classes, images // size), size)
        hit = np.repeat(rng.random(images // size) < right, size)
        predicted = np.where(hit, labels, (labels + rng.integers(1, classes, images)) % classes)
        held += [
            low <= right <= high
            for low, high in group_bootstrap(labels, predicted, groups, classes, rng=rng, draws=300)
        ]
    assert (held / 300 > 0.9).all() and (held / 300 < 0.99).all(), held / 300


def test_the_interval_is_wilson_s_at_95_percent() -> None:
    low, high = interval(np.arange(10_000), np.arange(10_000) % 10 != 0)
    assert (low, high) == (pytest.approx(0.9 - 1.96 * 0.003, abs=2e-4), pytest.approx(0.9 + 1.96 * 0.003, abs=2e-4))


def clustered(rng: np.random.Generator, groups: int, size: int, share: float, within: float) -> np.ndarray:
    """Right or wrong (groups * size,), with beta-distributed shares: `within` is the correlation in a group."""
    each = rng.beta(share * (1 / within - 1), (1 - share) * (1 / within - 1), groups)
    return rng.random(groups * size) < np.repeat(each, size)


@pytest.mark.parametrize(("groups", "share", "within"), [(25, 0.9, 0.3), (40, 0.8, 0.6), (120, 0.95, 0.3)])
def test_95_of_100_intervals_of_a_recall_hold_it_though_images_come_in_groups(
    groups: int, share: float, within: float
) -> None:
    rng = np.random.default_rng(4)
    names = np.arange(groups * 6) // 6
    by_group, by_image = [], []
    for _ in range(400):
        right = clustered(rng, groups, 6, share, within)
        low, high = share_interval(right, names)
        by_group.append(low <= share <= high)
        low, high = share_interval(right, np.arange(len(right)))
        by_image.append(low <= share <= high)
    assert 0.9 <= np.mean(by_group) <= 0.99, np.mean(by_group)
    assert np.mean(by_image) < 0.88, "images of one part are not independent"


def test_95_of_100_intervals_of_balanced_accuracy_hold_it() -> None:
    rng, held = np.random.default_rng(5), []
    true = np.array([0.95, 0.8, 0.9])
    labels = np.repeat(np.arange(90) % 3, 4)
    for _ in range(200):
        each = rng.beta(true[labels[::4]] * 3, (1 - true[labels[::4]]) * 3)
        right = rng.random(360) < np.repeat(each, 4)
        counts = group_counts(count(labels, np.where(right, labels, (labels + 1) % 3), 3), np.arange(360) // 4)
        low, high = count_interval(counts, mean_recall, rng=rng, draws=300)
        held.append(low <= true.mean() <= high)
    assert 0.9 <= np.mean(held) <= 0.99, np.mean(held)


def test_a_sum_of_magnitudes_that_noise_explains_reaches_zero() -> None:
    rng = np.random.default_rng(6)
    noise = rng.normal(0, 1.0, (2000, 10)) / 100

    def size(each: np.ndarray) -> np.ndarray:
        return np.abs(each).sum(axis=-1)

    assert inverted_interval(rng.normal(0, 1.0, 10) / 100, noise, size)[0] == 0
    low, high = inverted_interval(np.full(10, 0.05), noise, size)
    assert 0.4 < low < 0.5 < high < 0.6
    assert inverted_interval(np.zeros(10), noise, size)[1] > 0.08
