"""Would a simple rule do? Brightness, contrast and edges with one threshold or three, fitted on training images."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from device_agent.contract.manifest import InputSpec
from device_agent.contract.optional import require
from toolkit.data.images import Dataset, load
from toolkit.evaluation.answers import CHUNK, Answers, Progress
from toolkit.evaluation.figures import Figure, Judged, share
from toolkit.evaluation.paired import Difference, differences
from toolkit.runs import Run

FEATURES = ("brightness", "contrast", "edges", "darkest", "brightest", "redness")
FOLDS = 5
Depth = Literal[1, 2]


class SimpleRule(msgspec.Struct, frozen=True, kw_only=True):
    """The better of one threshold and a tree of depth 2, chosen by group-wise folds of the training images
    (`chosen_by`: mean balanced accuracy of each depth), and judged on the images of the split.

    With good and defect classes it decides defect or not, and so does the model that it is compared with; `figures` are
    then of that decision. `gain` is the model less the rule.
    """

    decides: Literal["defect", "class"]
    depth: Depth
    rule: list[str]
    chosen_by: dict[str, float]
    images: int
    defect_recall: Figure | None
    false_alarm_rate: Figure | None
    gain: dict[str, Difference]
    verdict: str


def describe_pictures(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Features (n, 6) of images (n, h, w, channels) uint8: mean and standard deviation of the grey value, mean
    magnitude of its Sobel gradient, its 1 and 99 % quantiles, and mean red less blue (0 for grey images); in grey
    levels, 0 to 255.

    >>> describe_pictures(np.full((1, 8, 8, 3), 7, np.uint8)).tolist()
    [[7.0, 0.0, 0.0, 7.0, 7.0, 0.0]]
    """
    cv2 = require("cv2", extra="toolkit")
    grey = images.mean(axis=3, dtype=np.float32)
    edges = np.array(
        [
            np.hypot(
                cv2.Sobel(one, cv2.CV_32F, 1, 0, scale=0.125), cv2.Sobel(one, cv2.CV_32F, 0, 1, scale=0.125)
            ).mean()
            for one in grey
        ]
    )
    low, high = np.quantile(grey, [0.01, 0.99], axis=(1, 2))
    colour = images.shape[3] == 3
    red = (images[..., 0].astype(np.float32) - images[..., 2]).mean(axis=(1, 2)) if colour else np.zeros(len(images))
    columns = [grey.mean(axis=(1, 2)), grey.std(axis=(1, 2)), edges, low, high, red]
    return np.column_stack(columns).astype(np.float64)


def against_simple_rule(run: Run, judged: Judged, answers: Answers, *, progress: Progress | None = None) -> SimpleRule:
    """Fit the rule on the training images of the run, and compare it with the model on the images of `answers`.

    Raises:
        BadInput: the task "labels" without a good class, or too few groups for folds.
    """
    dataset, spec = run.dataset(), run.record.input
    good = judged.good()
    binary = bool(good.any() and not good.all())
    train = run.rows("train")
    row_of = {file: row for row, file in enumerate(dataset.files)}
    held = np.array([row_of[file] for file in answers.files])
    known, asked = (_describe(dataset, spec, rows, progress) for rows in (train, held))
    labels, groups = np.asarray(dataset.labels), np.asarray(dataset.groups)
    target = ~good[labels] if binary else labels
    depth, chosen_by = _choose(known, target[train], groups[train])
    tree = _tree(depth).fit(known, target[train])
    said = np.asarray(tree.predict(asked))
    return _judge(judged, answers, said, binary, depth, _sentences(tree, judged.names, binary), chosen_by)


def _describe(
    dataset: Dataset, spec: InputSpec, rows: NDArray[np.int64], progress: Progress | None
) -> NDArray[np.float64]:
    parts = []
    for start in range(0, len(rows), CHUNK):
        parts.append(describe_pictures(load(dataset, spec, rows[start : start + CHUNK])))
        if progress is not None:
            progress(min(start + CHUNK, len(rows)), len(rows))
    return np.concatenate(parts)


def _tree(depth: Depth) -> Any:
    tree = require("sklearn.tree", extra="toolkit")
    return tree.DecisionTreeClassifier(max_depth=depth, class_weight="balanced", random_state=0)


def _choose(
    features: NDArray[np.float64], target: NDArray[np.generic], groups: NDArray[np.str_]
) -> tuple[Depth, dict[str, float]]:
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import StratifiedGroupKFold

    folds = min(FOLDS, len(np.unique(groups)), int(np.unique(target, return_counts=True)[1].min()))
    if folds < 2:
        raise BadInput("too few groups of training images to fit a simple rule on")
    scores: dict[Depth, float] = {}
    parts = list(StratifiedGroupKFold(folds, shuffle=True, random_state=0).split(features, target, groups))
    for depth in (1, 2):
        said = np.empty_like(target)
        for fit_on, rest in parts:
            said[rest] = _tree(depth).fit(features[fit_on], target[fit_on]).predict(features[rest])
        scores[depth] = float(balanced_accuracy_score(target, said))
    return (2 if scores[2] > scores[1] else 1), {f"depth {depth}": score for depth, score in scores.items()}


def _judge(
    judged: Judged,
    answers: Answers,
    said: NDArray[np.generic],
    binary: bool,
    depth: Depth,
    rule: list[str],
    chosen_by: dict[str, float],
) -> SimpleRule:
    groups, good = answers.groups, judged.good()
    defect = np.asarray(~judged.truth()[:, good].any(axis=1))
    if binary:
        both = [np.column_stack([~one, one]) for one in (defect, said.astype(bool), judged.called_defect())]
        gain = differences(both[0], both[1], both[2], groups, ["good", "defect"])
    else:
        one_hot = np.eye(len(judged.names), dtype=bool)
        gain = differences(one_hot[judged.labels], one_hot[said.astype(int)], judged.said(), groups, judged.names)
    called = said.astype(bool)
    return SimpleRule(
        decides="defect" if binary else "class",
        depth=depth,
        rule=rule,
        chosen_by=chosen_by,
        images=len(said),
        defect_recall=share(called, groups, defect) if binary else None,
        false_alarm_rate=share(called, groups, ~defect) if binary else None,
        gain=gain,
        verdict=_verdict(gain["balanced-accuracy"]),
    )


def _verdict(gain: Difference) -> str:
    said = (
        f"balanced accuracy {gain.a:.3f} by the rule, {gain.b:.3f} by the model "
        f"(gain {gain.value:+.3f}, {gain.low:+.3f} to {gain.high:+.3f})"
    )
    return f"the model is better than a simple rule: {said}" if gain.low > 0 else f"a simple rule may do: {said}"


def _sentences(tree: Any, names: list[str], binary: bool) -> list[str]:
    """The tree in words, one line a leaf."""
    inner, classes = tree.tree_, tree.classes_
    out: list[str] = []

    def walk(node: int, path: list[str]) -> None:
        if inner.children_left[node] < 0:
            label = classes[int(inner.value[node][0].argmax())]
            said = ("defect" if label else "good") if binary else names[int(label)]
            out.append(f"{' and '.join(path) or 'always'}: {said}")
            return
        name, limit = FEATURES[inner.feature[node]], f"{inner.threshold[node]:.4g}"
        walk(inner.children_left[node], [*path, f"{name} <= {limit}"])
        walk(inner.children_right[node], [*path, f"{name} > {limit}"])

    walk(0, [])
    return out
