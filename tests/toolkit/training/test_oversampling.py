"""Drawn features lie between those of their own class, between parts where there are some, and are not too many."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from toolkit.training.oversampling import MOST_TIMES, oversample
from toolkit.training.probe import fit_probe

Floats = NDArray[np.float32]
RNG = np.random.default_rng(0)


def _features(counts: list[int]) -> tuple[Floats, NDArray[np.int64], NDArray[np.str_]]:
    labels = np.repeat(np.arange(len(counts)), counts)
    features = RNG.normal(labels[:, None] * 8.0, 1.0, (len(labels), 6)) * 10.0 ** np.arange(-2, 4)
    return features.astype(np.float32), labels, np.arange(len(labels)).astype(str)


def test_every_class_reaches_the_largest_or_ten_times_its_own() -> None:
    features, labels, groups = _features([200, 60, 4])
    more, answers = oversample(features, labels, groups, seed=0)
    assert np.bincount(answers).tolist() == [200, 200, 4 * (1 + MOST_TIMES) - 4]
    assert np.array_equal(more[: len(features)], features) and np.array_equal(answers[: len(labels)], labels)
    assert more.dtype == np.float32 and len(more) == len(answers)


def test_what_is_drawn_lies_between_two_of_its_class_and_is_new() -> None:
    features, labels, groups = _features([60, 8, 3])
    more, answers = oversample(features, labels, groups, seed=0)
    for label in (1, 2):
        own, drawn = features[labels == label], more[len(features) :][answers[len(features) :] == label]
        assert len(np.unique(drawn, axis=0)) > len(own)
        ends = [(one, two) for one in own for two in own]
        for point in drawn.astype(np.float64):
            shares = [
                (float((point - one) @ (two - one) / max((two - one) @ (two - one), 1e-9)), one, two)
                for one, two in ends
                if one is not two
            ]
            gaps = [
                np.abs((one + share * (two - one) - point) / features.std(axis=0)).max() for share, one, two in shares
            ]
            best = int(np.argmin(gaps))
            assert gaps[best] < 1e-3 and -1e-3 <= shares[best][0] <= 1 + 1e-3


def test_neighbours_are_parts_not_photographs_of_one_part() -> None:
    centres = np.arange(8.0) * 100
    features = np.concatenate([RNG.normal(0, 1, 400), np.repeat(centres, 5) + np.tile(np.arange(5) * 1e-3, 8)])[:, None]
    labels, groups = np.repeat([0, 1], [400, 40]), np.r_[np.arange(400), 1000 + np.repeat(np.arange(8), 5)].astype(str)
    more, answers = oversample(features, labels, groups, seed=0)
    drawn = more[len(features) :][answers[len(features) :] == 1, 0]
    apart = np.abs(drawn[:, None] - centres).min(axis=1)
    assert np.mean(apart > 1) > 0.9, "between photographs of one part it would be under 0.004"


def test_a_class_of_two_images_works_and_one_of_one_is_refused() -> None:
    features, labels, groups = _features([9, 2])
    assert np.bincount(oversample(features, labels, groups, seed=0)[1]).tolist() == [9, 9]
    with pytest.raises(BadInput, match=r"class 1 \(counted from 0\) has one"):
        oversample(features[:10], labels[:10], groups[:10], seed=0)


def test_same_seed_same_features_and_another_seed_others() -> None:
    features, labels, groups = _features([30, 7])
    one, two, other = (oversample(features, labels, groups, seed=seed)[0] for seed in (1, 1, 2))
    assert np.array_equal(one, two) and not np.array_equal(one, other)


def test_a_constant_feature_stays_constant() -> None:
    features, labels, groups = _features([30, 7])
    features[:, 2] = 4.5
    more, _ = oversample(features, labels, groups, seed=0)
    assert np.allclose(more[:, 2], 4.5) and np.isfinite(more).all()


def test_a_probe_with_smote_has_scores_and_knows_the_classes() -> None:
    features, labels, groups = _features([80, 12, 6])
    plain = fit_probe([features, features], labels, groups, seed=0)
    probe = fit_probe([features, features], labels, groups, seed=0, smote=True)
    assert probe.scores and not np.allclose(plain.kernel, probe.kernel)
    assert np.mean((features @ probe.kernel + probe.bias).argmax(axis=1) == labels) > 0.97
    with pytest.raises(BadInput, match="has one"):
        fit_probe([features[:93]], labels[:93], groups[:93], seed=0, smote=True)
