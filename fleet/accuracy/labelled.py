"""Accuracy with labels: samples are labelled by strata, and each stratum counts as much as it does on the line.

Within a stratum (a predicted class and a band of confidence) labelled parts are taken to be like the others. Which
parts were labelled says nothing then, only which of each stratum are right.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec
import numpy as np

from device_agent.contract.errors import BadInput
from fleet.accuracy.intervals import CONFIDENCE, Floats, Interval
from fleet.accuracy.labels import Truth
from fleet.accuracy.validation import Coarse

DRAWS = 2000
BORROWED, LEAST_BORROWED = 20.0, 1.0
"""Labels that the validation counts for in each stratum: many for the estimate, where they quiet the rare finds of
large strata, few for the limits, which are to hold when the line is no longer like the validation."""


class Labelled(msgspec.Struct, frozen=True, kw_only=True):
    """Figures in [0, 1] with 95 % limits, measured on `labels` parts. `escape` is the share of defects that pass,
    `overkill` that of good parts that are called defects; `looked_at` the share of the line's frames in strata with a
    label, `disputed` parts on which people disagree and `without_confidence` those of which only the class is known,
    both left out. None where nothing of that kind was found or expected."""

    labels: int
    disputed: int
    without_confidence: int
    looked_at: float
    accuracy: Interval
    recall: Interval
    escape: Interval
    overkill: Interval
    provenance: Literal["measured"] = "measured"


def tally(coarse: Coarse, truths: Iterable[Truth]) -> tuple[Floats, int, int]:
    """Labels (classes, strata) by true class and stratum; how many are disputed, and how many without confidence.

    Raises:
        BadInput: a label that is no class of the model.
    """
    validation = coarse.validation
    counts, disputed, bare = np.zeros_like(coarse.counts), 0, 0
    for truth in truths:
        if not truth.label:
            disputed += 1
        elif truth.cell is None:
            bare += 1
        else:
            true, cell = validation.number(truth.label), validation.fold_cell(truth.cell)
            if true is None or cell is None:
                raise BadInput(f"accuracy: label {truth.label!r} in cell {truth.cell} is not of this model")
            counts[true, coarse.stratum[cell]] += 1
    return counts, disputed, bare


def estimate_labelled(
    coarse: Coarse, weight: Floats, labels: Floats, rng: np.random.Generator, *, disputed: int = 0, bare: int = 0
) -> Labelled:
    """Stratified figures of a line from its labels.

    Each stratum's share of a true class is that among its labels, with the validation as `BORROWED` labels more; so the
    estimate leans to the validation, and the fewer labels there are the more. Limits are percentiles over Dirichlet
    draws of every stratum, with `LEAST_BORROWED`; at each end one part more of the largest weight is supposed
    that nobody saw (Fay and Feuer 1997), so that no defect among fifty labels does not count as none in ten thousand.

    Args:
        coarse: bands of a validation.
        weight: (strata,) share of the line's frames.
        labels: (classes, strata), see `tally`.
        rng: for the draws.

    Raises:
        BadInput: no label, or no frames.
    """
    if labels.sum() < 1 or weight.sum() <= 0:
        raise BadInput("accuracy: without a label and the line's counts nothing is measured")
    weight = weight / weight.sum()
    prior = BORROWED * coarse.truth_given()
    share = (labels + prior) / (labels + prior).sum(axis=0)
    weak = labels + LEAST_BORROWED * coarse.truth_given()
    drawn = rng.gamma(np.broadcast_to(weak, (DRAWS, *labels.shape)) + 1e-9)
    drawn /= np.maximum(drawn.sum(axis=1, keepdims=True), 1e-300)
    extra = rng.gamma(1.0, size=DRAWS)
    parts = _parts(coarse, weight * share[None])
    spread = _parts(coarse, weight * drawn)
    heaviest = _heaviest(coarse, weight, labels)
    figures = {
        "accuracy": ("right", "wrong"),
        "recall": ("found", "missed"),
        "overkill": ("rejected", "passed"),
    }
    found = {name: _limits(parts, spread, yes, no, heaviest, extra) for name, (yes, no) in figures.items()}
    recall = found["recall"]
    return Labelled(
        labels=int(labels.sum()),
        disputed=disputed,
        without_confidence=bare,
        looked_at=float(weight[labels.sum(axis=0) > 0].sum()),
        accuracy=found["accuracy"],
        recall=recall,
        escape=Interval(1 - recall.value, 1 - recall.high, 1 - recall.low),
        overkill=found["overkill"],
    )


def _parts(coarse: Coarse, table: Floats) -> dict[str, Floats]:
    """Shares (draws,) of the line's frames that the figures are made of, from joint shares (draws, true, strata)."""
    defect = coarse.validation.defect
    called = defect[coarse.predicted]
    right = table[:, coarse.predicted, np.arange(len(called))].sum(axis=1)
    bad, good = table[:, defect].sum(axis=1), table[:, ~defect].sum(axis=1)
    return {
        "right": right,
        "wrong": table.sum(axis=(1, 2)) - right,
        "found": bad[:, called].sum(axis=1),
        "missed": bad[:, ~called].sum(axis=1),
        "rejected": good[:, called].sum(axis=1),
        "passed": good[:, ~called].sum(axis=1),
    }


def _heaviest(coarse: Coarse, weight: Floats, labels: Floats) -> dict[str, float]:
    """The largest share of the line that one unseen part of each kind may stand for."""
    called = coarse.validation.defect[coarse.predicted]
    each = weight / (labels.sum(axis=0) + 1)
    by_kind = {"found": called, "rejected": called, "missed": ~called, "passed": ~called}
    found = {kind: float(each[where].max()) for kind, where in by_kind.items()}
    return found | {"right": float(each.max()), "wrong": float(each.max())}


def _limits(
    parts: dict[str, Floats], spread: dict[str, Floats], yes: str, no: str, heaviest: dict[str, float], extra: Floats
) -> Interval:
    """Share yes / (yes + no): lower with one more `no` supposed, upper with one more `yes`."""
    value = float(parts[yes][0] / max(parts[yes][0] + parts[no][0], 1e-300))
    fewer, more = spread[no] + heaviest[no] * extra, spread[yes] + heaviest[yes] * extra
    tail = (1 - CONFIDENCE) / 2
    low = float(np.quantile(spread[yes] / np.maximum(spread[yes] + fewer, 1e-300), tail))
    high = float(np.quantile(more / np.maximum(more + spread[no], 1e-300), 1 - tail))
    return Interval(value, min(max(low, 0.0), value), max(min(high, 1.0), value))
