"""The linear probe: a balanced logistic regression on frozen features, which then is the model's last layer.

Starting a fine-tune from it keeps the features from being distorted by a random head (Kumar et al. 2022, Fine-tuning
can distort pretrained features and underperform out-of-distribution).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from toolkit.data.splits import folds
from toolkit.evaluation.metrics import balanced_loss
from toolkit.training.oversampling import oversample

STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)
Features = NDArray[np.floating]
More = Callable[[Features, NDArray[np.int64], NDArray[np.str_]], tuple[Features, NDArray[np.int64]]]


class Probe(NamedTuple):
    """A last layer: logits = features @ kernel + bias. kernel (features, classes) and bias (classes,) float32;
    `strength` is the C that was chosen, `scores` the log-loss of each C on held-out groups."""

    kernel: NDArray[np.float32]
    bias: NDArray[np.float32]
    strength: float
    scores: dict[float, float]


def fit_probe(
    views: list[Features], labels: NDArray[np.int64], groups: NDArray[np.str_], *, seed: int, smote: bool = False
) -> Probe:
    """The probe, fitted to all views; its strength is chosen on three inner folds over groups.

    Args:
        views: features (n, features) of the images as they are, and then of their flips, if any.
        labels: (n,) classes; every class from 0 to the highest has an image.
        groups: (n,) what is never on both sides of a fold.
        smote: whether rare classes get features drawn between their neighbours; those of a fold are drawn inside it.

    Raises:
        BadInput: features that are not finite; with smote a class of one image.
    """
    if not all(np.isfinite(view).all() for view in views):
        raise BadInput("the frozen network gives features that are not finite; its weights are damaged")
    more = functools.partial(oversample, seed=seed) if smote else None
    scores = _strengths(views[0], labels, groups, seed, more)
    strength = min(scores, key=lambda each: (scores[each], each)) if scores else 0.1
    features, answers = np.concatenate(views), np.tile(labels, len(views))
    if more is not None:
        features, answers = more(features, answers, np.tile(groups, len(views)))
    kernel, bias = _regress(features, answers, strength / len(views))
    return Probe(kernel, bias, strength, scores)


def _strengths(
    features: Features, labels: NDArray[np.int64], groups: NDArray[np.str_], seed: int, more: More | None
) -> dict[float, float]:
    """Balanced log-loss of each strength on held-out groups; none where a class has too few groups to hold one out."""
    present = np.unique(labels)
    fewest = min(len(np.unique(groups[labels == label])) for label in present)
    if fewest < 2:
        return {}
    fold = folds(labels, groups, min(3, fewest), seed)
    if any(set(labels[fold != held]) != set(present) for held in np.unique(fold)):
        return {}
    taught = {held: (features[fold != held], labels[fold != held]) for held in np.unique(fold)}
    if more is not None:
        if any(np.bincount(answers)[present].min() < 2 for _, answers in taught.values()):
            return {}
        taught = {held: more(*each, groups[fold != held]) for held, each in taught.items()}
    losses = {}
    for strength in STRENGTHS:
        logits = np.empty((len(labels), len(present)))
        for held in np.unique(fold):
            kernel, bias = _regress(*taught[held], strength)
            logits[fold == held] = features[fold == held] @ kernel + bias
        losses[strength] = balanced_loss(logits, labels)
    return losses


def _regress(
    features: Features, labels: NDArray[np.int64], strength: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Kernel and bias on raw features; the standardisation that the fit ran under is folded into them."""
    from sklearn.linear_model import LogisticRegression

    mean, spread = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64)
    # a feature that hardly ever moves must not be blown up by the first image that moves it
    spread = np.maximum(spread, 0.01 * spread.mean() + 1e-12)
    fit = LogisticRegression(C=strength, class_weight="balanced", max_iter=500, tol=1e-3)
    fit.fit(((features - mean) / spread).astype(np.float32), labels)
    coefficients, intercept = fit.coef_.astype(np.float64), fit.intercept_.astype(np.float64)
    if len(coefficients) == 1:  # two classes: one row that stands for the difference of their logits
        coefficients, intercept = np.vstack([-coefficients, coefficients]) / 2, np.append(-intercept, intercept) / 2
    kernel = coefficients.T / spread[:, None]
    return kernel.astype(np.float32), (intercept - mean @ kernel).astype(np.float32)
