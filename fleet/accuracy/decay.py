"""When labels show that a model is worse than it was validated to be."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fleet.accuracy.calibration import Calibration
from fleet.accuracy.finding import Finding, finding_id
from fleet.accuracy.intervals import Interval, exact, wilson
from fleet.accuracy.labelled import Labelled
from fleet.accuracy.labels import Truth
from fleet.accuracy.validation import Validation
from fleet.models import Model
from fleet.wording import printable

LEAST_LABELS = 30


def expectation(validation: Validation) -> dict[str, Interval]:
    """Accuracy at the stated prevalence, recall of "defect" and overkill, as the validation images show them, with
    exact limits; accuracy with Wilson's, over as many images as its weights leave. Measured, on these images.

    Raises:
        BadInput: classes that are all good or all defects, or one of the two without an image.
    """
    two = validation if validation.side is not None else validation.by_role()
    table = two.counts.reshape(2, 2, -1).sum(axis=2)
    images = np.round(table.sum(axis=1)).astype(int)
    bad = exact(min(round(table[1, 1]), images[1]), int(images[1]))
    false = exact(min(round(table[0, 1]), images[0]), int(images[0]))
    given, totals = validation.given(), validation.counts.sum(axis=1)
    right = (given * (validation.predicted == np.arange(validation.classes)[:, None])).sum(axis=1)
    weights = validation.prevalence
    effective = 1 / max(float((weights[totals > 0] ** 2 / totals[totals > 0]).sum()), 1e-12)
    accuracy = wilson(min(float(weights @ right), 1.0), effective)
    return {"accuracy": accuracy, "recall": bad, "overkill": false}


def labelled_findings(
    model: Model,
    expected: dict[str, Interval],
    labelled: Labelled,
    truths: Sequence[Truth],
    calibrated: Calibration | None,
) -> list[Finding]:
    """Figures whose measured limits lie wholly beyond those of validation, and a calibration that changed.

    Two 95 % intervals that do not meet: a healthy model does so in well under one of a hundred looks (measured in
    benchmarks/accuracy). At least `LEAST_LABELS` labels.
    """
    if labelled.labels < LEAST_LABELS:
        return []
    span = min(truth.at_ms for truth in truths), max(truth.at_ms for truth in truths)
    found = []
    for figure in ("accuracy", "recall"):
        now, before = getattr(labelled, figure), expected[figure]
        if now.high < before.low:
            found.append(_finding(model, figure, now, before, labelled.labels, span))
    if labelled.overkill.low > expected["overkill"].high:
        found.append(_finding(model, "overkill", labelled.overkill, expected["overkill"], labelled.labels, span))
    if calibrated is not None and calibrated.verdict == "changed":
        found.append(_calibration(model, calibrated, span))
    return found


def _finding(model: Model, figure: str, now: Interval, before: Interval, labels: int, span: tuple[int, int]) -> Finding:
    return Finding(
        id=finding_id("labels", model.model, model.model, figure, span[0]),
        kind="labels",
        severity="page",
        scope_kind="model",
        scope=model.model,
        model=model.model,
        figure=figure,
        onset_ms=span[0],
        at_ms=span[1],
        value=now.value,
        low=now.low,
        high=now.high,
        claim=before.value,
        log_e=None,
        parts=labels,
        text=printable(
            f"{model.name}: {figure} {now.value:.1%} ({now.low:.1%} to {now.high:.1%}) on {labels} labelled parts, "
            f"{before.value:.1%} ({before.low:.1%} to {before.high:.1%}) in validation; measured"
        ),
        may_trigger=True,
        reason="labels",
    )


def _calibration(model: Model, found: Calibration, span: tuple[int, int]) -> Finding:
    return Finding(
        id=finding_id("calibration", model.model, model.model, "ece", span[0]),
        kind="calibration",
        severity="warn",
        scope_kind="model",
        scope=model.model,
        model=model.model,
        figure="ece",
        onset_ms=span[0],
        at_ms=span[1],
        value=found.ece.value,
        low=found.ece.low,
        high=found.ece.high,
        claim=found.chance,
        log_e=None,
        parts=found.labels,
        text=printable(
            f"{model.name}: confidences no longer mean what they did in validation (p {found.p:.4f} on {found.labels} "
            f"labelled parts); expected calibration error {found.ece.value:.3f} ({found.ece.low:.3f} to "
            f"{found.ece.high:.3f}), {found.chance:.3f} by chance alone; measured"
        ),
        may_trigger=False,
        reason="labels",
    )
