"""What a model does not promise, in sentences, each drawn from a figure of the run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from device_agent.contract.errors import BadInput, NotFound
from toolkit.evaluation.scores import Evaluation
from toolkit.runs import Run

FEW_PARTS = 30  # of a class among the validation images: a recall of 1 then has a 95 % interval down to 0.88
WIDE = 0.1  # width of an interval
MISCALIBRATED = 0.02


def limits_of(run: Run, evaluations: Sequence[Evaluation]) -> list[str]:
    """Sentences on small classes, wide intervals, calibration, an unscored test split and an unstated prevalence."""
    found = [_small_classes(run), _wide(evaluations), _miscalibrated(evaluations)]
    if not any(one.split == "test" for one in evaluations):
        found.append("The held-out test split was not scored; the validation images chose the model and flatter it.")
    if run.record.prevalence is None:
        found.append("The shares on the line were not stated; precision there cannot be told.")
    return [sentence for sentence in found if sentence]


def _small_classes(run: Run) -> str:
    try:
        dataset, rows = run.dataset(), run.rows("val")
    except (BadInput, NotFound):
        return ""  # the section on the data says so
    parts = {
        label.name: len(np.unique(dataset.groups[rows[dataset.labels[rows] == place]]))
        for place, label in enumerate(run.labels)
    }
    few = ", ".join(f"{name} ({count})" for name, count in parts.items() if count < FEW_PARTS)
    return few and f"Classes judged on fewer than {FEW_PARTS} parts, so that a recall says little: {few}."


def _wide(evaluations: Sequence[Evaluation]) -> str:
    wide = [one for one in evaluations if one.macro_f1_interval[1] - one.macro_f1_interval[0] > WIDE]
    if not wide:
        return ""
    low, high = min(one.macro_f1_interval[0] for one in wide), max(one.macro_f1_interval[1] for one in wide)
    return f"Macro-F1 is known to {low:.2f} to {high:.2f} only, from {wide[0].groups} parts: {_names(wide)}."


def _miscalibrated(evaluations: Sequence[Evaluation]) -> str:
    rough = [one for one in evaluations if one.figures.get("ece") and one.figures["ece"].low > MISCALIBRATED]
    if not rough:
        return ""
    worst = max(one.ece for one in rough)
    return f"Confidence is off by up to {worst:.3f} on average, so a threshold on it is rough: {_names(rough)}."


def _names(evaluations: Sequence[Evaluation]) -> str:
    return ", ".join(f"{one.artifact} ({one.split})" for one in evaluations)
