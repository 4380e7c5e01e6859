"""What is normal for a model: from its bundle, or, where the bundle does not say enough, from its first day."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.histogram import ConfidenceHistogram, dense_cells
from device_agent.contract.manifest import Baseline, Label
from device_agent.detector.reference import Reference, estimate_prevalence, reference_from_baseline, weighted_cells
from device_agent.detector.streams import StreamSet, streams

LEARN_MS = 86_400_000
LEARN_FRAMES = 1_000
LEARN_CLASSES = 256


class Learning(msgspec.Struct, kw_only=True):
    """The first day of a model, pooled over its devices: sparse counts as in the histogram, and whether it is over."""

    since_ms: int
    cells: list[int] = []
    done: bool = False

    def add(self, counts: NDArray[np.int64], at_ms: int, *, learn_ms: int = LEARN_MS) -> bool:
        """Count a report (classes, 24). True when this one ends the learning."""
        total = dense_cells(self.cells, len(counts)) + counts
        self.cells = ConfidenceHistogram.of(total).cells
        self.done = at_ms - self.since_ms >= learn_ms and int(total.sum()) >= LEARN_FRAMES
        return self.done


def needs_learning(labels: Sequence[Label], baseline: Baseline | None) -> bool:
    """Whether the bundle states no prevalence, or was never imported. Then up to `LEARN_CLASSES` classes are learnt, as
    memory grows with their square."""
    if baseline is None:
        return len(labels) <= LEARN_CLASSES
    return baseline.prevalence is None


def normal(
    labels: Sequence[Label], baseline: Baseline | None, learning: Learning | None
) -> tuple[StreamSet, Reference] | None:
    """Streams and reference (one row) of a model; None when nothing is known of it yet.

    A baseline without prevalence gives a reference that is not armed until the first day has shown the prevalence. A
    model that was never imported is compared with its own first day, and stays unarmed: nobody said which of its
    classes are good, or that the first day was.
    """
    classes = len(labels)
    prevalence = None
    if baseline is None:
        if learning is None or not learning.done:
            return None
        day = dense_cells(learning.cells, classes)
        baseline = Baseline.of(day[:, None, :] * np.eye(classes, dtype=np.int64)[:, :, None])
    elif baseline.prevalence is None and learning is not None and learning.done:
        prevalence = estimate_prevalence(baseline, dense_cells(learning.cells, classes))
    chosen = streams(
        [label.role for label in labels],
        weighted_cells(baseline, prevalence),
        [label.name for label in labels],
    )
    return chosen, reference_from_baseline(baseline, chosen, prevalence=prevalence)


def expected_cells(
    labels: Sequence[Label], baseline: Baseline | None, learning: Learning | None
) -> NDArray[np.float64] | None:
    """Cell shares (classes, 24) that are normal for a model, to be drawn beside what is seen; None when unknown."""
    if baseline is not None:
        prevalence = None
        if baseline.prevalence is None and learning is not None and learning.done:
            prevalence = estimate_prevalence(baseline, dense_cells(learning.cells, len(labels)))
        return weighted_cells(baseline, prevalence)
    if learning is not None and learning.done:
        day = dense_cells(learning.cells, len(labels)).astype(np.float64)
        return np.asarray(day / max(day.sum(), 1.0))
    return None
