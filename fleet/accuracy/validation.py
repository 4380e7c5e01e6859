"""What validation showed of a model: where each true class falls, as shares of few cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from device_agent.contract.histogram import BINS, EDGES
from device_agent.contract.manifest import Baseline, Label
from fleet.accuracy.intervals import Floats

MOST_CLASSES = 32
"""Above, classes are merged to good and defect: what is asked then is whether a part passes."""
DOUBTFUL_SHARE = 0.01
BANDS = (1.0, 2.5, 4.5, 6.5)
"""Log-odds between the bands in which labels are drawn: 73, 92, 98.9 and 99.85 % confidence."""


@dataclass(frozen=True)
class Validation:
    """Counts (classes, classes * 24) of true class x cell, cell = predicted * 24 + bin; the share of each true class
    on the line (classes,), and whether somebody stated it; which classes are defects (classes,); their names. Where
    classes were merged, `side` says which of the two each of the model's own, `own_names`, became, 0 good and
    1 defect."""

    counts: Floats
    prevalence: Floats
    stated: bool
    defect: NDArray[np.bool_]
    names: tuple[str, ...]
    side: NDArray[np.intp] | None = None
    own_names: tuple[str, ...] = ()

    @classmethod
    def of(cls, labels: Sequence[Label], baseline: Baseline) -> Validation:
        """From a model's labels and the bundle's baseline.

        Raises:
            BadInput: a baseline without counts, or of other classes.
        """
        dense = baseline.dense().astype(np.float64)
        if len(labels) != len(dense):
            raise BadInput(f"accuracy: {len(labels)} labels for a baseline of {len(dense)} classes")
        if dense.sum() < 1:
            raise BadInput("accuracy: the baseline has no validation counts; evaluate the artifact before it is packed")
        totals = dense.sum(axis=(1, 2))
        stated = baseline.prevalence is not None
        shares = np.array(baseline.prevalence if stated else totals / totals.sum(), np.float64)
        defect = np.array([label.role == "defect" for label in labels])
        names = tuple(label.name for label in labels)
        whole = cls(dense.reshape(len(dense), -1), shares / shares.sum(), stated, defect, names)
        return whole.by_role() if len(labels) > MOST_CLASSES else whole

    @property
    def classes(self) -> int:
        """How many."""
        return len(self.counts)

    @property
    def predicted(self) -> NDArray[np.intp]:
        """Predicted class (cells,) of each cell."""
        return np.repeat(np.arange(self.classes), BINS)

    def by_role(self) -> Validation:
        """The same with two classes, good and defect, each true class at its share on the line.

        Raises:
            BadInput: all classes are good, or all are defects.
        """
        if self.defect.all() or not self.defect.any():
            raise BadInput("accuracy: a model whose classes are all good, or all defects, decides nothing")
        side = self.defect.astype(np.intp)
        prevalence = np.asarray(np.bincount(side, self.prevalence, 2), np.float64)
        totals = np.maximum(self.counts.sum(axis=1), 1)
        weight = self.prevalence / totals
        counts = np.zeros((2, 2, BINS))
        for true, row in enumerate(self.counts.reshape(self.classes, self.classes, BINS)):
            np.add.at(counts[side[true]], side, row * weight[true])
        images = np.bincount(side, self.counts.sum(axis=1), 2)
        counts *= (images / np.maximum(counts.sum(axis=(1, 2)), 1e-300))[:, None, None]
        pair, two = ("good", "defect"), np.array([False, True])
        return Validation(counts.reshape(2, -1), prevalence, self.stated, two, pair, side, self.names)

    def fold(self, seen: NDArray[np.integer]) -> Floats:
        """Counts (classes, 24) of the line as (cells,), merged as the validation is.

        Raises:
            BadInput: other classes.
        """
        dense = np.asarray(seen, np.float64)
        own = self.classes if self.side is None else len(self.side)
        if dense.shape != (own, BINS):
            raise BadInput(f"accuracy: counts of shape {dense.shape} for {own} classes of {BINS} bins")
        if self.side is None:
            return dense.ravel()
        merged = np.zeros((2, BINS))
        np.add.at(merged, self.side, dense)
        return np.asarray(merged.ravel())

    def number(self, label: str) -> int | None:
        """Number of a true class by the model's own name for it; None for one of another model."""
        if self.side is None:
            return self.names.index(label) if label in self.names else None
        return int(self.side[self.own_names.index(label)]) if label in self.own_names else None

    def fold_cell(self, cell: int) -> int | None:
        """A cell of the model, class * 24 + bin, as one of these; None for one of another model."""
        own = self.classes if self.side is None else len(self.side)
        label, confidence = divmod(cell, BINS)
        if not 0 <= label < own:
            return None
        return cell if self.side is None else int(self.side[label]) * BINS + confidence

    def line_shares(self) -> Floats:
        """Cell shares (cells,) expected on the line: each class at its prevalence."""
        return np.asarray(self.prevalence @ self.given())

    def given(self) -> Floats:
        """Cell shares (classes, cells) of each true class; one that was never validated is spread over all cells."""
        totals = self.counts.sum(axis=1, keepdims=True)
        return np.asarray(np.where(totals > 0, self.counts / np.maximum(totals, 1e-300), 1 / self.counts.shape[1]))

    def coarse(self) -> Coarse:
        """Cells pooled for fitting: the bins of the least sure 1 % of the line's frames stand alone, all above are one
        for each predicted class. How sure an answer is beyond doubt says little of whether it
        is right, and moves with every change of product."""
        by_bin = self.line_shares().reshape(self.classes, BINS).sum(axis=0)
        below = np.concatenate([[0.0], np.cumsum(by_bin)])
        cut = min(int(np.searchsorted(below, DOUBTFUL_SHARE)), BINS - 1)
        return Coarse.of(self, np.minimum(np.arange(BINS), cut))

    def bands(self) -> Coarse:
        """Cells pooled into the strata of labels: five bands of confidence for each predicted class."""
        lower = np.concatenate([[-np.inf], EDGES])
        return Coarse.of(self, np.searchsorted(np.array(BANDS), lower, side="right"))


@dataclass(frozen=True)
class Coarse:
    """A validation over pooled cells. stratum: (cells,) which each cell belongs to. counts: (classes, strata).
    predicted: (strata,) class. level: (strata,) 0 is the least sure."""

    validation: Validation
    stratum: NDArray[np.intp]
    counts: Floats
    predicted: NDArray[np.intp]
    level: NDArray[np.intp]

    @classmethod
    def of(cls, validation: Validation, level: NDArray[np.integer]) -> Coarse:
        """`level` (24,) of each bin, rising from 0."""
        levels = int(level.max()) + 1
        stratum = (np.arange(validation.classes)[:, None] * levels + level[None]).ravel().astype(np.intp)
        size = validation.classes * levels
        counts = np.stack([np.asarray(np.bincount(stratum, row, size), np.float64) for row in validation.counts])
        number = np.arange(size)
        return cls(validation, stratum, counts, number // levels, number % levels)

    def band(self, stratum: int) -> str:
        """The band of log-odds of a stratum of `Validation.bands` in words."""
        edges = ["", *(f"{edge:g}" for edge in BANDS), ""]
        low, high = edges[self.level[stratum]], edges[self.level[stratum] + 1]
        return f"{low} to {high}" if low and high else f"under {high}" if high else f"over {low}"

    def pool(self, seen: Floats) -> Floats:
        """Counts (cells,) as (strata,)."""
        return np.asarray(np.bincount(self.stratum, seen, len(self.predicted)), np.float64)

    def smoothed(self) -> Floats:
        """Counts (classes, strata) with one more image a class, spread over all strata."""
        return np.asarray(self.counts + 1 / self.counts.shape[1])

    def truth_given(self) -> Floats:
        """Probability (classes, strata) of each true class in each stratum, on a line of the stated prevalence."""
        smooth = self.smoothed()
        joint = self.validation.prevalence[:, None] * smooth / smooth.sum(axis=1, keepdims=True)
        return np.asarray(joint / np.maximum(joint.sum(axis=0), 1e-300))
