"""Label suspects: images whose label a classifier that never saw their part finds hard to believe.

Confident learning (Northcutt et al. 2021, Confident Learning: Estimating Uncertainty in Dataset Labels) on predictions
out of fold, with folds over groups: photographs of one part vouch for each other's wrong label otherwise.
"""

from __future__ import annotations

import os
import warnings
from contextlib import AbstractContextManager
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.optional import require
from toolkit.data.images import Progress
from toolkit.data.splits import folds

FOLDS, FOLDS_OF_FEW, FEW_IMAGES = 5, 10, 5_000  # few images are worth the time to train on nine tenths of them
SHARE = 0.15  # of the images, which are listed
LEARNT, LEARNT_GROUPS = 0.5, 5
"""A classifier that agrees with less than this share of a class's labels, and on fewer groups, does not know it."""
_MOST_TRAINED = 20_000  # images of one fold; more hardly change the ranking
_COMPONENTS = 128
_TREES = 120

Features = NDArray[np.floating]


def one_thread() -> AbstractContextManager[Any]:
    """The block's matrices, which are small, are not divided among cores: on a busy machine they wait for each other
    for minutes."""
    limits: AbstractContextManager[Any] = require("threadpoolctl", extra="toolkit").threadpool_limits(1)
    return limits


class Suspect(msgspec.Struct, frozen=True, kw_only=True):
    """An image whose label is doubted: `rank` 1 is the most doubtful, `score` 0 (surely wrong) to 1, `likely` the class
    that fits better. `confident` marks those that confident learning counts as errors."""

    file: str
    given: str
    likely: str
    score: float
    rank: int
    confident: bool
    row: int


class LabelDoubts(msgspec.Struct, frozen=True, kw_only=True):
    """All doubts of a data set: `judged` images, the share of wrong labels that is estimated, how often the classifier
    agrees with the labels (balanced over classes), the first 15 % by rank. Of the classes in `not_learnt` no label is
    counted as wrong: the classifier takes most of their images for something else, as it does where the parts are few.
    `skipped` says why nothing was judged."""

    judged: int = 0
    estimated_errors: int = 0
    agreement: float = 0.0
    suspects: list[Suspect] = []
    not_learnt: list[str] = []
    skipped: str = ""


def out_of_fold(
    views: list[Features],
    labels: NDArray[np.int64],
    groups: NDArray[np.str_],
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> NDArray[np.float64]:
    """Probabilities (n, classes) of each image by classifiers that were trained without its group.

    The mean of two that err differently, for each view: a logistic regression and extremely randomised trees (Geurts
    et al. 2006), both of which many wrong labels hardly move.

    Args:
        views: kinds of features, (n, features) each.
        labels: (n,) from 0 to the highest, each of at least two groups.
    """
    wanted = FOLDS_OF_FEW if len(labels) <= FEW_IMAGES else FOLDS
    fold = folds(labels, groups, min(wanted, len(np.unique(groups)), int(np.bincount(labels).max())), seed)
    total = np.zeros((len(labels), int(labels.max()) + 1))
    held_out = np.unique(fold)
    steps = len(held_out) * len(views)
    for step, (held, view) in enumerate(((held, view) for held in held_out for view in views), 1):
        test = np.flatnonzero(fold == held)
        train = _thinned(np.flatnonzero(fold != held), labels, np.random.default_rng([seed, int(held)]))
        with one_thread():
            for model, linear in _models(seed):
                total[test] += _answers(model, linear, view, labels, train, test, total.shape[1])
        if progress is not None:
            progress(step, steps)
    return np.asarray(total / total.sum(axis=1, keepdims=True), np.float64)


def find_suspects(
    views: list[Features],
    labels: NDArray[np.int64],
    groups: NDArray[np.str_],
    names: list[str],
    files: list[str],
    *,
    members: NDArray[np.bool_] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[LabelDoubts, NDArray[np.float64]]:
    """The doubts, and the score of each image: (n,), NaN where it was not judged.

    Args:
        members: (n, classes) every class of an image that has several; it is no suspect for being another of its own.
    """
    scores = np.full(len(labels), np.nan)
    able = [label for label in range(len(names)) if len(np.unique(groups[labels == label])) >= 2]
    rows = np.flatnonzero(np.isin(labels, able))
    if len(able) < 2 or len(rows) < 20:
        return LabelDoubts(skipped="it takes two classes of two groups each, and 20 images"), scores
    given = np.searchsorted(able, labels[rows])
    probabilities = out_of_fold([view[rows] for view in views], given, groups[rows], seed=seed, progress=progress)
    if members is not None:
        probabilities = _own_together(probabilities, given, members[rows][:, able])
    quality, wrong = _confident_learning(given, probabilities)
    agreement, learnt = _learnt(given, probabilities, groups[rows])
    wrong &= learnt[given]
    scores[rows] = quality
    others = probabilities.copy()
    others[np.arange(len(rows)), given] = -1
    likely = others.argmax(axis=1)
    order = np.lexsort((np.array(files)[rows], quality))[: int(np.ceil(SHARE * len(rows)))]
    suspects = [
        Suspect(
            file=files[rows[place]],
            given=names[able[given[place]]],
            likely=names[able[likely[place]]],
            score=round(float(quality[place]), 4),
            rank=rank,
            confident=bool(wrong[place]),
            row=int(rows[place]),
        )
        for rank, place in enumerate(order, 1)
    ]
    doubts = LabelDoubts(
        judged=len(rows),
        estimated_errors=int(wrong.sum()),
        agreement=round(float(agreement.mean()), 4),
        suspects=suspects,
        not_learnt=[names[label] for label, is_learnt in zip(able, learnt, strict=True) if not is_learnt],
    )
    return doubts, scores


def _learnt(
    given: NDArray[np.int64], probabilities: NDArray[np.float64], groups: NDArray[np.str_]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The share of each class's labels that the classifier agrees with, and whether it knows the class."""
    right = probabilities.argmax(axis=1) == given
    classes = range(probabilities.shape[1])
    agreement = np.array([right[given == label].mean() for label in classes])
    known = np.array([len(np.unique(groups[right & (given == label)])) for label in classes])
    return agreement, (agreement >= LEARNT) | (known >= LEARNT_GROUPS)


def _confident_learning(
    given: NDArray[np.int64], probabilities: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    rank = require("cleanlab.rank", extra="toolkit")
    filters = require("cleanlab.filter", extra="toolkit")
    quality = rank.get_label_quality_scores(given, probabilities, method="self_confidence")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes that nothing was predicted as
        wrong = filters.find_label_issues(given, probabilities, n_jobs=1, filter_by="both")
    return np.asarray(quality, np.float64), np.asarray(wrong, np.bool_)


def _own_together(
    probabilities: NDArray[np.float64], given: NDArray[np.int64], members: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """The probability of all of an image's own classes counted for the one that stands for them."""
    own = (probabilities * members).sum(axis=1)
    out = np.where(members, 0.0, probabilities)
    out[np.arange(len(given)), given] = own
    return out


def _models(seed: int) -> list[tuple[Any, bool]]:
    linear = require("sklearn.linear_model", extra="toolkit")
    trees = require("sklearn.ensemble", extra="toolkit")
    return [
        (linear.LogisticRegression(C=0.007, max_iter=200, tol=1e-2), True),
        (
            trees.ExtraTreesClassifier(
                _TREES, min_samples_leaf=2, max_features="sqrt", random_state=seed, n_jobs=os.cpu_count()
            ),
            False,
        ),
    ]


def _answers(
    model: Any,
    linear: bool,
    view: Features,
    labels: NDArray[np.int64],
    train: NDArray[np.int64],
    test: NDArray[np.int64],
    kinds: int,
) -> NDArray[np.float64]:
    known, asked = view[train].astype(np.float32), view[test].astype(np.float32)
    if linear:
        mean, spread = known.mean(axis=0), known.std(axis=0)
        spread = np.maximum(spread, 0.01 * spread.mean() + 1e-9)
        known, asked = (known - mean) / spread, (asked - mean) / spread
        count = min(_COMPONENTS, *known.shape)
        reduce = require("sklearn.decomposition", extra="toolkit").PCA(count, svd_solver="randomized", random_state=0)
        known, asked = reduce.fit_transform(known), reduce.transform(asked)
    model.fit(known, labels[train])
    out = np.zeros((len(test), kinds))
    out[:, model.classes_] = model.predict_proba(asked)
    return out


def _thinned(rows: NDArray[np.int64], labels: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """At most _MOST_TRAINED of the rows, of which the rare classes keep all."""
    if len(rows) <= _MOST_TRAINED:
        return rows
    rows = rng.permutation(rows)
    counts = np.bincount(labels[rows])
    low, high = 0, int(counts.max())
    while low < high:  # the most images a class may have
        middle = (low + high + 1) // 2
        low, high = (middle, high) if np.minimum(counts, middle).sum() <= _MOST_TRAINED else (low, middle - 1)
    place = np.empty(len(rows), np.int64)
    for label in np.unique(labels[rows]):
        mine = labels[rows] == label
        place[mine] = np.arange(mine.sum())
    return np.sort(rows[place < low])
