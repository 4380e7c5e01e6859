"""The probe's layer computes what the fit on standardised features computes, for any scale of the features."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from device_agent.contract.errors import BadInput
from toolkit.training.probe import STRENGTHS, fit_probe


def _features(classes: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.str_]]:
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), 40)
    centres = rng.normal(0, 1.2, (classes, 12))
    features = (centres[labels] + rng.normal(0, 1, (len(labels), 12))) * 10.0 ** rng.uniform(-1, 1, 12) + 5
    return features.astype(np.float32), labels, np.array([f"g{row // 4}" for row in range(len(labels))])


@pytest.mark.parametrize("classes", [2, 5])
def test_standardisation_is_folded_exactly(classes: int) -> None:
    features, labels, groups = _features(classes)
    probe = fit_probe([features], labels, groups, seed=0)
    scaled = ((features - features.mean(axis=0, dtype=float)) / features.std(axis=0, dtype=float)).astype(np.float32)
    wanted = LogisticRegression(C=probe.strength, class_weight="balanced", max_iter=500, tol=1e-3).fit(scaled, labels)
    logits = features @ probe.kernel + probe.bias
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    odds /= odds.sum(axis=1, keepdims=True)
    assert odds.std(axis=0).min() > 0.1
    assert np.abs(odds - wanted.predict_proba(scaled)).max() < 0.02, "the floor of the spread may move it a little"
    assert (logits.argmax(axis=1) == labels).mean() > 0.85


def test_strength_is_the_one_with_the_lowest_loss_on_held_out_groups() -> None:
    features, labels, groups = _features(3)
    probe = fit_probe([features], labels, groups, seed=0)
    assert set(probe.scores) == set(STRENGTHS)
    assert probe.scores[probe.strength] == min(probe.scores.values())


def test_noise_gets_a_weaker_fit_than_a_clear_case() -> None:
    features, labels, groups = _features(3)
    noise = np.random.default_rng(1).normal(0, 1, features.shape).astype(np.float32)
    assert fit_probe([noise], labels, groups, seed=0).strength < fit_probe([features], labels, groups, seed=0).strength


def test_a_rare_class_counts_as_much_as_a_frequent_one() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [1900, 100])
    features = rng.normal(labels[:, None], 1.0, (2000, 1)).astype(np.float32)
    probe = fit_probe([features], labels, np.arange(2000).astype(str), seed=0)
    said = (features @ probe.kernel + probe.bias).argmax(axis=1)
    assert said[labels == 0].mean() == pytest.approx(0.31, abs=0.06), "the border is half way between the classes"
    assert said[labels == 1].mean() == pytest.approx(0.69, abs=0.1)


def test_a_class_of_one_group_falls_back_to_a_fixed_strength() -> None:
    features, labels, groups = _features(3)
    groups = np.where(labels == 2, "one", groups)
    probe = fit_probe([features], labels, groups, seed=0)
    assert probe.scores == {} and probe.strength == 0.1


def test_constant_feature_does_no_harm() -> None:
    features, labels, groups = _features(3)
    features[:, 0] = 2.5
    probe = fit_probe([features], labels, groups, seed=0)
    assert np.isfinite(probe.kernel).all()
    moved = features.copy()
    moved[:, 0] += 0.1
    assert np.abs((moved - features) @ probe.kernel).max() < 1.0


def test_views_count_together() -> None:
    features, labels, groups = _features(3)
    one, two = (fit_probe([features] * count, labels, groups, seed=0) for count in (1, 2))
    assert np.abs(one.kernel).max() > 0.01
    assert np.allclose(one.kernel, two.kernel, rtol=0.05, atol=0.02)


def test_features_that_are_no_numbers() -> None:
    features, labels, groups = _features(2)
    features[3, 3] = np.nan
    with pytest.raises(BadInput, match="not finite"):
        fit_probe([features], labels, groups, seed=0)
