"""Parent, pruned model and control on the same validation images, with intervals over groups."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from converters.macro_f1 import macro_f1
from toolkit.compression.outcome import Score
from toolkit.evaluation.figures import Judged
from toolkit.evaluation.intervals import count_interval, group_counts
from toolkit.evaluation.metrics import softmax
from toolkit.evaluation.paired import Difference, differences
from toolkit.training.examples import Examples
from toolkit.training.judgement import Judge

Logits = NDArray[np.floating]


class Side(NamedTuple):
    """What a model said to each image, and its score: `truth` and `said` are (n, classes) bool."""

    truth: NDArray[np.bool_]
    said: NDArray[np.bool_]
    score: Score


def side(logits: Logits, val: Examples, judge: Judge, *, seed: int = 0) -> Side:
    """What logits (n, classes) say to the validation images."""
    judged = Judged(
        logits=logits,
        probabilities=softmax(logits),
        labels=val.labels,
        groups=val.groups,
        names=[str(place) for place in range(len(judge.roles))],
        roles=list(judge.roles),
        task=judge.task,
        marks=val.marks,
    )
    truth, said = judged.truth(), judged.said()
    counts = group_counts(np.stack([truth & said, truth, said]).astype(np.float64), val.groups)
    low, high = count_interval(counts, macro_f1, rng=np.random.default_rng(seed))
    return Side(truth, said, Score(float(macro_f1(counts.sum(axis=1))), low, high))


def gain(before: Side, after: Side, val: Examples, *, seed: int = 0) -> Difference:
    """Macro-F1 of `after` less that of `before`, with its paired interval."""
    names = [str(place) for place in range(before.truth.shape[1])]
    return differences(before.truth, before.said, after.said, val.groups, names, seed=seed)["macro-f1"]
