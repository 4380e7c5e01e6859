"""What a training minimises: one loss an image, from soft targets and logits, for each task.

Every loss is linear in its targets: the loss of a mixture of two images' targets is the mixture of their losses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput

MOST_WEIGHT = 10.0  # an image of a rare class counts at most so many times an average one
BETA = 0.9999  # Cui et al.: about 10,000 images say all that there is to say of a class
KIND_WEIGHT = 0.5  # hierarchy: the kind of a defect against good or defect; at 1 both levels together are the flat loss
FLOOR = 1e-7  # of 1 - p, where its power would have no gradient
ASYMMETRIC_MARGIN = 0.05
ASYMMETRIC_GAMMA = 4.0
Loss = Callable[[Any, Any], Any]
Floats = NDArray[np.float32]


class LossChoice(Protocol):
    """The part of a recipe that decides the loss. `smoothing` 0 to 0.5; `focal_gamma` >= 0; `adjust_tau` >= 0;
    `sampling` as in toolkit.training.sampling."""

    @property
    def task(self) -> str: ...
    @property
    def loss(self) -> str: ...
    @property
    def smoothing(self) -> float: ...
    @property
    def focal_gamma(self) -> float: ...
    @property
    def adjust_tau(self) -> float: ...
    @property
    def sampling(self) -> str: ...


def make_loss(
    recipe: LossChoice, counts: NDArray[np.integer], roles: Sequence[str], *, images: int | None = None
) -> Loss:
    """The loss of a recipe: (targets (b, classes) float32, logits (b, classes)) to losses (b,) float32, in TensorFlow.

    Targets are shares that add up to 1, or with task "labels" a 0 to 1 for each mark. cross-entropy; focal (Lin et al.
    2017, Focal loss for dense object detection); class-balanced by the effective number (Cui et al. 2019, see
    `class_weights`); logit-adjusted (Menon et al. 2021, Long-tail learning via logit adjustment; at tau 1 the balanced
    softmax of Ren et al. 2020); for marks also asymmetric (Ridnik et al. 2021). Labels are smoothed as in Szegedy et
    al. 2016.

    Weights and adjustment go by how often a class is seen: with a sampling that shows all classes alike the
    class-balanced loss is the plain one, and the logit-adjusted takes back what the sampling did beyond tau. So tau
    means the same with every sampling: 0 are logits for the shares of the images, 1 for equal classes. (Marks, of which
    an image may bear several, are taken as they are in the images.)

    Args:
        counts: (classes,) training images of each class; with task "labels" those that bear each mark.
        roles: (classes,) "good" or "defect".
        images: training images in all, where some bear several marks; without it the sum of `counts`.

    Raises:
        BadInput: roles that do not fit the task, an unknown loss.
    """
    found: NDArray[np.int64] = np.asarray(counts, np.int64)
    good = np.array([role == "good" for role in roles])
    if recipe.task == "labels":
        if good.sum() != 1:
            raise BadInput(f"task labels needs one good class beside the marks, got {int(good.sum())}")
        return _marks(recipe, found[~good], ~good, int(found.sum()) if images is None else images)
    if recipe.task == "hierarchy":
        if not 0 < good.sum() < len(good):
            raise BadInput(f"task hierarchy needs good and defect classes, got {int(good.sum())} good of {len(good)}")
        return _hierarchy(recipe, found, good)
    return _choice(recipe, found, _seen(recipe, found))


def class_weights(counts: NDArray[np.integer], *, beta: float = BETA) -> Floats:
    """Weight of an image of each class, (classes,): the inverse of the effective number (1 - beta^n) / (1 - beta) of
    its n images (Cui et al. 2019, Class-balanced loss based on effective number of samples), so scaled that the mean
    over images is 1, and at most 10. For classes of far fewer than 10,000 images this is the inverse frequency.

    >>> class_weights(np.array([300, 300])).tolist()
    [1.0, 1.0]
    >>> class_weights(np.array([999, 1])).round(1).tolist()
    [0.5, 10.0]
    """
    seen = np.maximum(np.asarray(counts, np.float64), 1)
    inverse = (1 - beta) / -np.expm1(seen * np.log(beta))
    scaled = inverse * np.sum(counts) / max(float(np.sum(counts * inverse)), 1e-12)
    return np.asarray(np.minimum(scaled, MOST_WEIGHT), np.float32)


def log_prior(counts: NDArray[np.integer]) -> NDArray[np.float64]:
    """Logarithm of each class's share, (classes,); a class without images counts as one of one.

    >>> np.exp(log_prior(np.array([3, 1]))).tolist()
    [0.75, 0.25]
    """
    seen = np.maximum(np.asarray(counts, np.float64), 1)
    return np.asarray(np.log(seen / seen.sum()))


def _seen(recipe: LossChoice, counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """How often each class is seen, in proportion: (classes,)."""
    return counts if recipe.sampling == "natural" else (counts > 0) * max(1, int(counts.max()))


def _choice(recipe: LossChoice, counts: NDArray[np.int64], seen: NDArray[np.int64]) -> Loss:
    """One of several classes: softmax. Targets may add up to less than 1; the loss then counts for as much less."""
    import tensorflow as tf

    classes = len(counts)
    weights = class_weights(seen) if recipe.loss == "class-balanced" else np.ones(classes, np.float32)
    offset = _offset(recipe, log_prior(seen), log_prior(counts))
    gamma = _gamma(recipe)

    def losses(targets: Any, logits: Any) -> Any:
        wanted = tf.cast(targets, tf.float32) * weights
        whole = tf.reduce_sum(wanted, axis=-1, keepdims=True)
        wanted = wanted * (1 - recipe.smoothing) + whole * (recipe.smoothing / classes)
        logs = tf.nn.log_softmax(tf.cast(logits, tf.float32) + offset)
        if gamma:
            logs = logs * tf.maximum(-tf.math.expm1(logs), FLOOR) ** gamma
        return -tf.reduce_sum(wanted * logs, axis=-1)

    return losses


def _hierarchy(recipe: LossChoice, counts: NDArray[np.int64], good: NDArray[np.bool_]) -> Loss:
    """Good or defect by the log-sum-exp of each role's logits, then KIND_WEIGHT times the kind within the true role."""
    import tensorflow as tf

    sides = [np.flatnonzero(good), np.flatnonzero(~good)]
    seen = _seen(recipe, counts)
    first = _choice(recipe, *(np.array([each[side].sum() for side in sides]) for each in (counts, seen)))
    kinds = [(side, _choice(recipe, counts[side], seen[side])) for side in sides if len(side) > 1]

    def losses(targets: Any, logits: Any) -> Any:
        targets, logits = tf.cast(targets, tf.float32), tf.cast(logits, tf.float32)
        shares = tf.stack([tf.reduce_sum(tf.gather(targets, side, axis=-1), axis=-1) for side in sides], axis=-1)
        levels = [tf.reduce_logsumexp(tf.gather(logits, side, axis=-1), axis=-1) for side in sides]
        total = first(shares, tf.stack(levels, axis=-1))
        for side, kind in kinds:
            total += KIND_WEIGHT * kind(tf.gather(targets, side, axis=-1), tf.gather(logits, side, axis=-1))
        return total

    return losses


def _marks(recipe: LossChoice, counts: NDArray[np.int64], marked: NDArray[np.bool_], images: int) -> Loss:
    """Several marks at a time: a sigmoid for each, the mean over marks; the good class takes no part."""
    import tensorflow as tf

    columns = np.flatnonzero(marked)
    pairs = np.stack([np.maximum(images - counts, 0), counts], axis=-1)  # images without and with each mark
    weights = np.ones((len(columns), 2), np.float32)
    if recipe.loss == "class-balanced":
        weights = np.stack([class_weights(pair) for pair in pairs])
    priors = [log_prior(pair) for pair in pairs]
    odds = np.array([prior[1] - prior[0] for prior in priors])
    offset = _offset(recipe, odds, odds)
    gamma_on, gamma_off = (0.0, ASYMMETRIC_GAMMA) if recipe.loss == "asymmetric" else (_gamma(recipe),) * 2
    margin = ASYMMETRIC_MARGIN if recipe.loss == "asymmetric" else 0.0

    def losses(targets: Any, logits: Any) -> Any:
        smoothed = tf.gather(tf.cast(targets, tf.float32), columns, axis=-1) * (1 - recipe.smoothing)
        smoothed += recipe.smoothing / 2
        scores = tf.gather(tf.cast(logits, tf.float32), columns, axis=-1) + offset
        on, off = tf.math.log_sigmoid(scores), tf.math.log_sigmoid(-scores)
        chance = tf.sigmoid(scores)
        if margin:
            chance = tf.maximum(chance - margin, 0.0)
            off = tf.math.log1p(-tf.minimum(chance, 1 - FLOOR))
        if gamma_on:
            on *= tf.maximum(1 - tf.sigmoid(scores), FLOOR) ** gamma_on
        if gamma_off:
            off *= tf.maximum(chance, FLOOR) ** gamma_off
        each = smoothed * on * weights[:, 1] + (1 - smoothed) * off * weights[:, 0]
        return -tf.reduce_mean(each, axis=-1)

    return losses


def _offset(recipe: LossChoice, seen: NDArray[np.float64], prior: NDArray[np.float64]) -> Floats:
    """What is added to the logits while training, so that without it they are those of classes with shares
    prior^(1 - tau); `seen` and `prior` are logarithms."""
    adjusted = seen - (1 - recipe.adjust_tau) * prior
    return np.asarray(adjusted if recipe.loss == "logit-adjusted" else 0.0 * prior, np.float32)


def _gamma(recipe: LossChoice) -> float:
    if recipe.loss not in ("cross-entropy", "class-balanced", "logit-adjusted", "focal", "asymmetric"):
        raise BadInput(f"no loss {recipe.loss!r}; known are cross-entropy, focal, class-balanced, logit-adjusted")
    if recipe.loss == "asymmetric" and recipe.task != "labels":
        raise BadInput("the asymmetric loss is for task labels; take focal")
    return recipe.focal_gamma if recipe.loss == "focal" else 0.0
