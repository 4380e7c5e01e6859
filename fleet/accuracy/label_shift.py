"""Shares of the true classes on a line, from what it looks like: the classes' own looks are taken as unchanged.

All functions work on many draws at once: given (draws, classes, cells) are shares of cells within each true class, and
seen (draws, cells) shares of cells on the line.
"""

from __future__ import annotations

import numpy as np

from fleet.accuracy.intervals import Floats
from fleet.accuracy.validation import Coarse

STEPS = 400
NEAR = 1e-7


def draw_given(coarse: Coarse, draws: int, rng: np.random.Generator) -> Floats:
    """Shares of cells within each class (draws, classes, strata) that the validation images leave possible: Dirichlet
    draws with one image more a class, spread over all strata (Rubin 1981)."""
    found = rng.gamma(np.broadcast_to(coarse.smoothed(), (draws, *coarse.counts.shape)))
    return np.asarray(found / np.maximum(found.sum(axis=2, keepdims=True), 1e-300))


def draw_seen(seen: Floats, phi: float, draws: int, rng: np.random.Generator) -> Floats:
    """Shares of cells (draws, strata) that counts (strata,) leave possible when `phi` frames are worth one."""
    found = rng.gamma(np.broadcast_to(seen / phi, (draws, len(seen))) + 1e-9)
    return np.asarray(found / np.maximum(found.sum(axis=1, keepdims=True), 1e-300))


def maximum_likelihood(given: Floats, seen: Floats, start: Floats) -> Floats:
    """Prevalence (draws, classes) by expectation maximisation over cells (Saerens, Latinne, Decaestecker 2002).

    Args:
        given, seen: see above.
        start: (classes,) shares to begin with, all over 0.

    >>> looks = np.array([[[0.9, 0.1], [0.2, 0.8]]])
    >>> maximum_likelihood(looks, np.array([[0.83, 0.17]]), np.array([0.5, 0.5])).round(3).tolist()
    [[0.9, 0.1]]
    """
    shares = np.repeat(start[None], len(given), axis=0)
    for _ in range(STEPS):
        joint = shares[:, :, None] * given
        mixed = np.maximum(joint.sum(axis=1), 1e-300)
        newer = np.einsum("dkc,dc->dk", joint, seen / mixed)
        newer /= np.maximum(newer.sum(axis=1, keepdims=True), 1e-300)
        done = np.abs(newer - shares).max() < NEAR
        shares = newer
        if done:
            break
    return np.asarray(shares)


def inverted_confusion(confusion: Floats, called: Floats) -> Floats:
    """Prevalence (draws, classes) by inverting the confusion matrix, on the simplex (Lipton, Wang, Smola 2018: BBSE).

    Args:
        confusion: (draws, classes, classes) share of each predicted class within each true one.
        called: (draws, classes) share of frames that each class was predicted for.

    >>> inverted_confusion(np.array([[[0.9, 0.1], [0.2, 0.8]]]), np.array([[0.83, 0.17]])).round(3).tolist()
    [[0.9, 0.1]]
    """
    solved = np.einsum("dkp,dp->dk", np.linalg.pinv(confusion.transpose(0, 2, 1)), called)
    return _onto_simplex(solved)


def _onto_simplex(points: Floats) -> Floats:
    """Nearest shares >= 0 that add up to 1 (Duchi et al. 2008)."""
    falling = -np.sort(-points, axis=1)
    excess = np.cumsum(falling, axis=1) - 1
    rank = np.arange(1, points.shape[1] + 1)
    kept = (falling - excess / rank > 0).sum(axis=1)
    off = excess[np.arange(len(points)), kept - 1] / kept
    return np.asarray(np.maximum(points - off[:, None], 0))


def unexplained(given: Floats, seen: Floats, shares: Floats) -> Floats:
    """Share of the frames (draws,) in excess of what the fitted mixture of the classes puts into their cells."""
    return np.asarray(np.maximum(seen - np.einsum("dk,dkc->dc", shares, given), 0).sum(axis=1))
