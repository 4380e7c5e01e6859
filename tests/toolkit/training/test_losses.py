"""Losses against their formulas in numpy and against scikit-learn; gradients against finite differences."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from toolkit.training.losses import KIND_WEIGHT, MOST_WEIGHT, class_weights, log_prior, make_loss

Array = NDArray[np.float64]
COUNTS = np.array([900, 60, 30, 10])
ROLES = ["good", "defect", "good", "defect"]
ONE_GOOD = ["defect", "good", "defect", "defect"]
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(0, 3, (12, 4)).astype(np.float32)
HARD = np.eye(4, dtype=np.float32)[np.arange(12) % 4]
SOFT = RNG.dirichlet(np.ones(4), 12).astype(np.float32)
MARKS = (RNG.random((12, 4)) < 0.4).astype(np.float32)


PLAIN = {"smoothing": 0.0, "focal_gamma": 2.0, "adjust_tau": 1.0, "sampling": "natural"}


def _recipe(task: str = "classes", loss: str = "cross-entropy", **fields: Any) -> Any:
    return SimpleNamespace(task=task, loss=loss, **(PLAIN | fields))


def _roles(task: str) -> list[str]:
    return ONE_GOOD if task == "labels" else ROLES


def _losses(recipe: Any, targets: NDArray[np.float32], logits: NDArray[np.float32] = LOGITS, **more: Any) -> Array:
    found = make_loss(recipe, COUNTS, _roles(recipe.task), **more)(targets, logits)
    return np.asarray(found, np.float64)


def _log_softmax(logits: Any) -> Array:
    logits = np.asarray(logits, np.float64)
    return np.asarray(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))


def test_weights_are_the_inverse_frequency_for_small_classes() -> None:
    weights = class_weights(np.array([600, 300, 300]))
    assert weights == pytest.approx([12 / 18, 12 / 9, 12 / 9], rel=0.02)


def test_weights_of_the_effective_number_saturate_for_large_classes() -> None:
    weights = class_weights(np.array([100_000, 1_000_000]))
    assert weights[0] == pytest.approx(weights[1], rel=1e-3), "both say all that there is to say"
    counts, beta = np.array([5000, 100]), 0.999
    wanted = (1 - beta) / (1 - beta ** counts.astype(float))
    assert class_weights(counts, beta=beta) == pytest.approx(wanted * 5100 / (counts * wanted).sum(), rel=1e-5)


def test_a_very_rare_class_weighs_no_more_than_the_limit_and_an_absent_one_breaks_nothing() -> None:
    weights = class_weights(np.array([999, 1, 0]))
    assert weights[1] == weights[2] == MOST_WEIGHT == 10
    assert weights[0] == pytest.approx(0.5, rel=0.06)


def test_prior_of_an_absent_class_is_finite() -> None:
    assert np.isfinite(log_prior(np.array([5, 0]))).all()


@pytest.mark.parametrize(
    ("recipe", "roles", "reason"),
    [
        (_recipe("labels"), ROLES, "one good class beside the marks, got 2"),
        (_recipe("hierarchy"), ["defect"] * 4, "got 0 good of 4"),
        (_recipe(loss="hinge"), ROLES, "no loss 'hinge'"),
        (_recipe(loss="asymmetric"), ROLES, "for task labels"),
    ],
)
@pytest.mark.slow
def test_roles_and_losses_that_do_not_fit_are_refused(recipe: Any, roles: list[str], reason: str) -> None:
    with pytest.raises(BadInput, match=reason):
        make_loss(recipe, COUNTS, roles)


@pytest.mark.slow
def test_cross_entropy_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import log_loss

    losses = _losses(_recipe(), HARD)
    assert losses.std() > 1
    wanted = log_loss(HARD.argmax(axis=1), np.exp(_log_softmax(LOGITS)), labels=range(4))
    assert losses.mean() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.slow
def test_formulas_of_the_softmax_losses() -> None:
    logs = _log_softmax(LOGITS)
    focal = -(SOFT * (1 - np.exp(logs)) ** 2 * logs).sum(axis=1)
    assert _losses(_recipe(loss="focal"), SOFT) == pytest.approx(focal, rel=1e-4)
    balanced = -(SOFT * class_weights(COUNTS) * logs).sum(axis=1)
    assert _losses(_recipe(loss="class-balanced"), SOFT) == pytest.approx(balanced, rel=1e-4)
    shifted = _log_softmax(LOGITS + 0.7 * np.log(COUNTS / COUNTS.sum()))
    assert _losses(_recipe(loss="logit-adjusted", adjust_tau=0.7), SOFT) == pytest.approx(
        -(SOFT * shifted).sum(axis=1), rel=1e-4
    )
    smoothed = HARD * 0.9 + 0.1 / 4
    assert _losses(_recipe(smoothing=0.1), HARD) == pytest.approx(-(smoothed * logs).sum(axis=1), rel=1e-4)
    weighed = class_weights(COUNTS)[HARD.argmax(axis=1)] * -(smoothed * logs).sum(axis=1)
    assert _losses(_recipe(loss="class-balanced", smoothing=0.1), HARD) == pytest.approx(weighed, rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["cross-entropy", "class-balanced", "logit-adjusted", "focal"])
@pytest.mark.parametrize("task", ["classes", "hierarchy"])
def test_loss_of_a_mixture_is_the_mixture_of_losses(task: str, loss: str) -> None:
    recipe = _recipe(task, loss, smoothing=0.1)
    each = np.stack([_losses(recipe, np.tile(row, (12, 1)).astype(np.float32)) for row in np.eye(4)], axis=1)
    assert each.std() > 0.5
    assert _losses(recipe, SOFT) == pytest.approx((SOFT * each).sum(axis=1), rel=1e-4)


@pytest.mark.slow
def test_logit_adjusted_training_finds_balanced_logits() -> None:
    """The best constant logits are the prior's under plain cross entropy, and level under logit adjustment."""
    import tensorflow as tf

    targets = np.tile((COUNTS / COUNTS.sum()).astype(np.float32), (1, 1))
    for loss, level in (("cross-entropy", False), ("logit-adjusted", True)):
        wanted = np.zeros(4) if level else log_prior(COUNTS)
        logits = tf.Variable(wanted[None].astype(np.float32))
        with tf.GradientTape() as tape:
            value = make_loss(_recipe(loss=loss), COUNTS, ROLES)(targets, logits)
        assert np.abs(tape.gradient(value, logits).numpy()).max() < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("sampling", ["natural", "balanced"])
@pytest.mark.parametrize("tau", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("task", ["classes", "hierarchy"])
def test_tau_means_the_same_with_every_sampling(task: str, tau: float, sampling: str) -> None:
    """The best constant logits are those of the prior to the power 1 - tau, however often a class is shown."""
    import tensorflow as tf

    shown = np.ones(4) / 4 if sampling == "balanced" else COUNTS / COUNTS.sum()
    wanted = (1 - tau) * log_prior(COUNTS)
    if task == "hierarchy":  # shares of the roles, then of the kinds within a role, each to that power
        sides = [[0, 2], [1, 3]]
        wanted = np.zeros(4)
        for side in sides:
            kinds = (1 - tau) * log_prior(COUNTS[side])
            role = (1 - tau) * np.log(COUNTS[side].sum() / COUNTS.sum())
            wanted[side] = kinds - np.log(np.exp(kinds).sum()) + role
    logits = tf.Variable(wanted[None].astype(np.float32))
    recipe = _recipe(task, "logit-adjusted", adjust_tau=tau, sampling=sampling)
    with tf.GradientTape() as tape:
        value = make_loss(recipe, COUNTS, ROLES)(shown[None].astype(np.float32), logits)
    assert np.abs(tape.gradient(value, logits).numpy()).max() < 1e-6


@pytest.mark.slow
def test_classes_that_are_shown_alike_weigh_alike() -> None:
    shown = _recipe(loss="class-balanced", sampling="oversample")
    assert np.array_equal(_losses(shown, HARD), _losses(_recipe(), HARD))


@pytest.mark.slow
def test_hierarchy_judges_good_or_defect_and_then_the_kind() -> None:
    odds = np.exp(LOGITS.astype(np.float64))
    good, kind = odds[:, [0, 2]].sum(axis=1), HARD.argmax(axis=1)
    side = np.where(np.isin(kind, [0, 2]), good, odds.sum(axis=1) - good)
    first, second = -np.log(side / odds.sum(axis=1)), -np.log(odds[np.arange(12), kind] / side)
    assert _losses(_recipe("hierarchy"), HARD) == pytest.approx(first + KIND_WEIGHT * second, rel=1e-4)


@pytest.mark.slow
def test_marks_are_scikit_learns_log_loss_of_each_mark_and_the_good_class_takes_no_part() -> None:
    from sklearn.metrics import log_loss

    chances = 1 / (1 + np.exp(-LOGITS.astype(np.float64)))
    wanted = np.mean([log_loss(MARKS[:, mark], chances[:, mark]) for mark in (0, 2, 3)])
    losses = _losses(_recipe("labels"), MARKS)
    assert losses.mean() == pytest.approx(wanted, rel=1e-5)
    moved, other = LOGITS.copy(), MARKS.copy()
    moved[:, 1], other[:, 1] = 50, 1 - other[:, 1]
    assert np.array_equal(_losses(_recipe("labels"), other, moved), losses)


@pytest.mark.slow
def test_formulas_of_the_marks_losses() -> None:
    chances = 1 / (1 + np.exp(-LOGITS[:, [0, 2, 3]].astype(np.float64)))
    marks = MARKS[:, [0, 2, 3]]
    focal = -(marks * (1 - chances) ** 2 * np.log(chances) + (1 - marks) * chances**2 * np.log(1 - chances))
    assert _losses(_recipe("labels", "focal"), MARKS) == pytest.approx(focal.mean(axis=1), rel=1e-3)
    shifted = np.maximum(chances - 0.05, 0)
    asymmetric = -(marks * np.log(chances) + (1 - marks) * shifted**4 * np.log(1 - shifted))
    assert _losses(_recipe("labels", "asymmetric"), MARKS) == pytest.approx(asymmetric.mean(axis=1), rel=1e-3, abs=1e-6)
    shares = COUNTS[[0, 2, 3]] / 2000
    adjusted = 1 / (1 + np.exp(-(LOGITS[:, [0, 2, 3]] + np.log(shares / (1 - shares)))))
    wanted = -(marks * np.log(adjusted) + (1 - marks) * np.log(1 - adjusted)).mean(axis=1)
    assert _losses(_recipe("labels", "logit-adjusted"), MARKS, images=2000) == pytest.approx(wanted, rel=1e-3)


@pytest.mark.slow
def test_a_rare_mark_weighs_as_much_as_its_absence() -> None:
    recipe, even = _recipe("labels", "class-balanced"), np.zeros((2, 4), np.float32)
    counts = np.array([50, 0, 500, 950])
    targets = np.array([[0, 0, 0, 0], [1, 0, 1, 1]], np.float32)
    absent, there = np.asarray(make_loss(recipe, counts, ONE_GOOD, images=1000)(targets, even))
    weights = [class_weights(np.array([1000 - count, count])) for count in counts[[0, 2, 3]]]
    assert absent / there == pytest.approx(sum(w[0] for w in weights) / sum(w[1] for w in weights), rel=1e-4)
    assert weights[0][1] * 50 == pytest.approx(weights[0][0] * 950, rel=0.06)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["cross-entropy", "class-balanced", "logit-adjusted", "focal", "asymmetric"])
@pytest.mark.parametrize("task", ["classes", "hierarchy", "labels"])
def test_gradients_are_the_slope_of_the_loss(task: str, loss: str) -> None:
    import tensorflow as tf

    if loss == "asymmetric" and task != "labels":
        return
    function = make_loss(_recipe(task, loss, smoothing=0.05), COUNTS, _roles(task), images=1200)
    targets, logits = MARKS if task == "labels" else SOFT, tf.Variable(LOGITS)
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(function(targets, logits))
    gradient = tape.gradient(value, logits).numpy()
    assert np.abs(gradient).max() > 0.05
    for column in range(4):
        step = np.zeros(4, np.float32)
        step[column] = 0.02
        slope = (np.asarray(function(targets, LOGITS + step)) - np.asarray(function(targets, LOGITS - step))) / 0.04
        assert gradient[:, column] == pytest.approx(slope, abs=5e-3)


@pytest.mark.slow
@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_loss_of_a_certain_answer_has_a_finite_gradient(gamma: float) -> None:
    import tensorflow as tf

    for task in ("classes", "labels"):
        logits = tf.Variable(np.array([[60, -60, -60, -60], [-60, 60, 60, 60]], np.float32))
        with tf.GradientTape() as tape:
            value = make_loss(_recipe(task, "focal", focal_gamma=gamma), COUNTS, _roles(task))(HARD[:2], logits)
        assert np.isfinite(tape.gradient(value, logits).numpy()).all() and np.isfinite(value.numpy()).all()
