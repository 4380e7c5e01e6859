"""Every figure of a model's answers by name, each with its 95 % interval over groups."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from converters.macro_f1 import macro_f1
from toolkit.evaluation.calibration import error, error_interval
from toolkit.evaluation.intervals import (
    Interval,
    count_interval,
    drawn_interval,
    group_counts,
    mean_recall,
    share_interval,
)
from toolkit.evaluation.ranking import average_precision, average_precision_draws, top_rows

Task = Literal["classes", "labels", "hierarchy"]
Role = Literal["good", "defect"]
TOP_SHARE = 0.05
Bools = NDArray[np.bool_]
Groups = NDArray[np.generic]


class Figure(msgspec.Struct, frozen=True):
    """A figure in [0, 1] with its 95 % interval, and the images and groups that it rests on: those of the class for a
    recall, those called so for a precision."""

    value: float
    low: float
    high: float
    images: int
    groups: int


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """Answers with all that figures need: `logits` (n, classes), `probabilities` (n, classes) after the temperature,
    `labels` (n,), `groups` (n,), `names` and `roles` in the order of the logits, `marks` (n, classes) for task
    "labels"."""

    logits: NDArray[np.floating]
    probabilities: NDArray[np.floating]
    labels: NDArray[np.int64]
    groups: NDArray[np.str_]
    names: list[str]
    roles: list[Role]
    task: Task = "classes"
    marks: NDArray[np.bool_] | None = None

    def truth(self) -> Bools:
        """(n, classes): of which classes each image is; of a good one where it has no mark."""
        if self.task != "labels" or self.marks is None:
            return np.asarray(np.eye(len(self.names), dtype=bool)[self.labels])
        truth, good = self.marks.copy(), self.good()
        truth[:, good] = False
        truth[:, good] = ~truth.any(axis=1, keepdims=True)
        return truth

    def said(self) -> Bools:
        """(n, classes): of which classes the model calls each image."""
        if self.task != "labels":
            return np.asarray(np.eye(len(self.names), dtype=bool)[self.logits.argmax(axis=1)])
        said, good = np.asarray(self.logits > 0), self.good()
        said[:, good] = False
        said[:, good] = ~said.any(axis=1, keepdims=True)
        return said

    def good(self) -> Bools:
        """(classes,): which are good."""
        return np.array([role == "good" for role in self.roles])

    def defect_scores(self) -> NDArray[np.float64]:
        """(n,) probability of any defect, after the temperature; for task "labels" the largest of one mark's."""
        defects = ~self.good()
        if self.task == "labels":
            return np.asarray(1 / (1 + np.exp(-np.clip(self.logits[:, defects].max(axis=1), -500, 500))))
        return np.asarray(self.probabilities[:, defects].sum(axis=1), np.float64)

    def ranking_scores(self) -> NDArray[np.float64]:
        """(n, classes): by which images are ranked for each class: the probability, for task "labels" the logit."""
        if self.task != "labels":
            return np.asarray(self.probabilities, np.float64)
        scores, good = np.array(self.logits, np.float64), self.good()
        scores[:, good] = -self.logits[:, ~good].max(axis=1, keepdims=True)
        return scores

    def called_defect(self) -> Bools:
        """(n,): the role of the top class, which is what a device says."""
        return np.asarray(~self.good()[self.logits.argmax(axis=1)])


def top_labels(logits: NDArray[np.floating], labels: NDArray[np.int64], marks: Bools | None) -> NDArray[np.int64]:
    """The class (n,) by which a top-1 answer is judged: the label, and where an image has several marks the one that
    was answered, if it is among them.

    >>> top_labels(np.array([[0.0, 2.0, 1.0]]), np.array([2]), np.array([[False, True, True]])).tolist()
    [1]
    """
    if marks is None:
        return labels
    top = logits.argmax(axis=1)
    return np.where(marks[np.arange(len(top)), top], top, labels)


def measure_figures(judged: Judged, *, rng: np.random.Generator) -> dict[str, Figure]:
    """All figures that the images can tell, by name; one that rests on no image is left out.

    accuracy, macro-f1, balanced-accuracy, ece (15 equal-mass bins), ece-equal-width, top-2, top-3, mean-ap; recall.C,
    precision.C, f1.C and ap.C of each class C. With good and defect classes: defect-recall, defect-precision,
    escape-rate, false-alarm-rate, kind-accuracy (of the defects: right kind), precision-at-5% and recall-at-5% of the
    images with the highest probability of a defect. For task "labels" recall, precision, F1 and average precision are
    of each mark, and exact-match is the share of images with all marks right.
    """
    out = _top_figures(judged, rng)
    out |= _class_figures(judged, rng)
    good = judged.good()
    if good.any() and not good.all():
        out |= _role_figures(judged)
    return out


def share(right: Bools, groups: Groups, among: Bools | None = None) -> Figure | None:
    """The share of `right` (n,) among some images, None where there are none."""
    if among is not None:
        right, groups = right[among], groups[among]
    if not len(right):
        return None
    return Figure(float(np.mean(right)), *share_interval(right, groups), len(right), len(np.unique(groups)))


def _top_figures(judged: Judged, rng: np.random.Generator) -> dict[str, Figure]:
    labels = top_labels(judged.logits, judged.labels, judged.marks)
    right = judged.logits.argmax(axis=1) == labels
    found = {"accuracy": share(right, judged.groups)}
    if judged.task == "labels":
        found["exact-match"] = share((judged.truth() == judged.said()).all(axis=1), judged.groups)
    rank = (judged.logits > judged.logits[np.arange(len(labels)), labels][:, None]).sum(axis=1)
    found |= {f"top-{k}": share(rank < k, judged.groups) for k in (2, 3) if k < len(judged.names)}
    for name, bins in (("ece", "mass"), ("ece-equal-width", "width")):
        value = error(judged.probabilities, labels, bins)  # type: ignore[arg-type]
        interval = error_interval(judged.probabilities, labels, judged.groups, rng=rng, bins=bins)  # type: ignore[arg-type]
        found[name] = _over_all(judged, value, interval)
    return {name: figure for name, figure in found.items() if figure is not None}


def _class_figures(judged: Judged, rng: np.random.Generator) -> dict[str, Figure]:
    truth, said, groups = judged.truth(), judged.said(), judged.groups
    counts = group_counts(np.stack([truth & said, truth, said]).astype(np.float64), groups)
    means: dict[str, Callable[[NDArray[np.float64]], NDArray[np.floating]]] = {
        "macro-f1": macro_f1,
        "balanced-accuracy": mean_recall,
    }
    out = {
        name: _over_all(judged, float(of(counts.sum(axis=1))), count_interval(counts, of, rng=rng))
        for name, of in means.items()
    }
    drawn, scores = [], judged.ranking_scores()
    for place, name in enumerate(judged.names):
        true, called = truth[:, place], said[:, place]
        if (recall := share(called, groups, true)) is None:
            continue
        out[f"recall.{name}"] = recall
        if (precision := share(true, groups, called)) is not None:
            out[f"precision.{name}"] = precision
        on = true | called
        f1 = float(macro_f1(counts[:, :, [place]].sum(axis=1)))
        interval = count_interval(group_counts(_single(true, called)[:, on], groups[on]), macro_f1, rng=rng)
        out[f"f1.{name}"] = Figure(f1, *interval, int(on.sum()), len(np.unique(groups[on])))
        draws = average_precision_draws(true, scores[:, place], groups, rng=rng)
        drawn.append((average_precision(true, scores[:, place]), draws))
        out[f"ap.{name}"] = Figure(drawn[-1][0], *drawn_interval(*drawn[-1]), recall.images, recall.groups)
    mean = float(np.mean([value for value, _ in drawn]))
    out["mean-ap"] = _over_all(judged, mean, drawn_interval(mean, np.mean([draws for _, draws in drawn], axis=0)))
    return out


def _single(true: Bools, called: Bools) -> NDArray[np.float64]:
    """Counts (3, n, 1) of one class."""
    return np.stack([true & called, true, called]).astype(np.float64)[:, :, None]


def _role_figures(judged: Judged) -> dict[str, Figure]:
    groups, called = judged.groups, judged.called_defect()
    true = np.asarray(~judged.truth()[:, judged.good()].any(axis=1))
    top: Bools = np.zeros(len(true), np.bool_)
    top[top_rows(judged.defect_scores(), TOP_SHARE)] = True
    found = {
        "defect-recall": share(called, groups, true),
        "defect-precision": share(true, groups, called),
        "escape-rate": share(~called, groups, true),
        "false-alarm-rate": share(called, groups, ~true),
        "kind-accuracy": share(_right_kind(judged), groups, true & called),
        "precision-at-5%": share(true, groups, top),
        "recall-at-5%": share(top, groups, true),
    }
    return {name: figure for name, figure in found.items() if figure is not None}


def _right_kind(judged: Judged) -> Bools:
    """(n,): the likeliest defect class is one that the image has."""
    defects = np.flatnonzero(~judged.good())
    kind = defects[judged.logits[:, defects].argmax(axis=1)]
    return np.asarray(judged.truth()[np.arange(len(kind)), kind])


def _over_all(judged: Judged, value: float, interval: Interval) -> Figure:
    return Figure(value, *interval, len(judged.labels), len(np.unique(judged.groups)))


def shown(figure: Figure | None) -> str:
    """A figure as tables show it.

    >>> shown(Figure(0.9, 0.812, 0.95, 10, 10)), shown(None)
    ('0.900 (0.812 to 0.950)', '-')
    """
    return "-" if figure is None else f"{figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f})"


def names_of(figures: Sequence[dict[str, Figure]]) -> list[str]:
    """Every name that occurs, in the order in which it comes first."""
    return list(dict.fromkeys(name for one in figures for name in one))
