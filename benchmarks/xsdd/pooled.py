"""Answers of several folds, pooled, and the line of the table that they make."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from toolkit.evaluation.intervals import group_bootstrap
from toolkit.evaluation.metrics import macro_f1

DRAWS = 2000
LIMITS = {"fp32": 0.3, "fp16": 0.3, "int8": 1.5}  # points of macro-F1 under Keras
AIM = 95.0
HEAD = (
    "| model | folds | images | accuracy % (95 %) | macro-F1 % (95 %) | to Keras, points (95 %) | same class % | aim |",
    "| --- | --- | --- | --- | --- | --- | --- | --- |",
)
Labels = NDArray[np.int64]


class Answers(NamedTuple):
    """True classes (n,), groups (n,) and what each model said (n,) of the same images."""

    labels: Labels
    groups: NDArray[np.str_]
    said: dict[str, Labels]


class Pooled(NamedTuple):
    """The images of the folds in which a model is: true classes, groups, its answers and Keras' (n,), and the folds."""

    labels: Labels
    groups: NDArray[np.str_]
    said: Labels
    keras: Labels
    folds: int


def pool(parts: list[Answers], name: str) -> Pooled:
    """All folds that have the model as one."""
    has = [part for part in parts if name in part.said]
    return Pooled(
        np.concatenate([part.labels for part in has]),
        np.concatenate([part.groups for part in has]),
        np.concatenate([part.said[name] for part in has]),
        np.concatenate([part.said["keras"] for part in has]),
        len(has),
    )


def row(
    name: str, labels: Labels, groups: NDArray[np.str_], said: Labels, keras: Labels, folds: int, *, seed: int
) -> str:
    """One line of the table; the aim is 95 % for Keras, and for an artifact its limit under Keras."""
    classes, score = int(labels.max()) + 1, 100 * macro_f1(labels, said)
    accuracy, interval = group_bootstrap(labels, said, groups, classes, rng=np.random.default_rng(seed), draws=DRAWS)
    cells = [name, str(folds), str(len(labels))]
    cells += [f"{100 * np.mean(said == labels):.2f} ({_percent(accuracy)})", f"{score:.2f} ({_percent(interval)})"]
    if name.startswith("keras"):
        return _line([*cells, "", "", f"{AIM:g}: {'met' if score >= AIM else 'missed'}"])
    gap, limit = score - 100 * macro_f1(labels, keras), LIMITS[name.rpartition("-")[2]]
    low, high = paired_interval(labels, groups, said, keras, seed=seed)
    cells += [f"{gap:+.2f} ({low:+.2f} to {high:+.2f})", f"{100 * np.mean(said == keras):.2f}"]
    return _line([*cells, f"-{limit:g}: {'met' if gap >= -limit else 'missed'}"])


def paired_interval(
    labels: Labels, groups: NDArray[np.str_], said: Labels, keras: Labels, *, seed: int
) -> tuple[float, float]:
    """95 % interval of the difference in macro-F1, in points; groups are drawn, the pairs kept together."""
    if (said == keras).all():
        return 0.0, 0.0
    _, group = np.unique(groups, return_inverse=True)
    count = int(group.max()) + 1
    weights = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=DRAWS)
    gaps = 100 * (_scores(weights, group, labels, said) - _scores(weights, group, labels, keras))
    low, high = np.quantile(gaps, [0.025, 0.975])
    return float(low), float(high)


def _scores(weights: NDArray[np.int64], group: Labels, labels: Labels, said: Labels) -> NDArray[np.float64]:
    """Macro-F1 (draws,) of each draw of groups."""
    classes = int(max(labels.max(), said.max())) + 1
    hits, total = np.zeros((2, weights.shape[1], classes))
    np.add.at(hits, (group[said == labels], labels[said == labels]), 2)
    np.add.at(total, (group, labels), 1)
    there = (weights @ total) > 0
    np.add.at(total, (group, said), 1)
    f1 = (weights @ hits) / np.maximum(weights @ total, 1)
    return np.asarray((f1 * there).sum(axis=1) / there.sum(axis=1))


def _percent(interval: tuple[float, float]) -> str:
    return f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f}"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
