"""The report of a run: one HTML page with every figure that was taken, its plots, and the model card."""

from __future__ import annotations

from pathlib import Path

import msgspec

from device_agent.contract.files import write_whole
from toolkit.evaluation.answers import KERAS
from toolkit.evaluation.scores import Evaluation, is_of_today, read_evaluation
from toolkit.page import Section, render
from toolkit.report import findings, sections
from toolkit.report.card import read_card
from toolkit.report.limits import limits_of
from toolkit.runs import Run


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A page that was written: where, its size in bytes, its sections, and what the model does not promise."""

    path: str
    size: int
    sections: list[str]
    limits: list[str]


def write_report(run: Run, out: Path | None = None, *, card: Path | None = None) -> Report:
    """Write the page, by default RUN/report.html; nothing is measured, only what lies in the run is shown.

    Raises:
        BadInput: a document of the run or the card is damaged.
        NotWritable: the disk is full, read-only or forbids it.
    """
    path = run.dir / "report.html" if out is None else out
    evaluations, outdated = evaluations_of(run)
    limits = [*limits_of(run, evaluations), *outdated]
    parts = [
        sections.purpose(read_card(card, run.dir)),
        Section(title="Limits", warnings=limits),
        sections.accuracy(run, evaluations),
        findings.operating_point(run),
        findings.slices(run),
        findings.robustness(run),
        sections.speed(run),
        sections.training(run),
        sections.data(run),
        sections.lineage(run),
    ]
    classes = ", ".join(f"{label.name} ({label.role})" for label in run.labels)
    text = render(run.record.name, f"{run.record.family}, {len(run.labels)} classes: {classes}", parts)
    write_whole(path, text)
    shown = [part.title for part in parts if not part.is_empty]
    return Report(path=str(path), size=len(text.encode()), sections=shown, limits=limits)


def evaluations_of(run: Run) -> tuple[list[Evaluation], list[str]]:
    """What was measured of each artifact and of the Keras model, if it was asked, on the validation images, and on the
    test images where these were scored; and a sentence on each result that is of another artifact or other data than
    the run has now, and is left out."""
    read = (read_evaluation(run, name, split) for name in (*run.artifacts(), KERAS) for split in ("val", "test"))
    kept, outdated = [], []
    for one in (each for each in read if each is not None):
        if is_of_today(run, one.artifact, one.artifact_sha256, one.data_sha256):
            kept.append(one)
        else:
            outdated.append(findings.left_out(f"The evaluation of {one.artifact} ({one.split})", "evaluate"))
    return kept, outdated
