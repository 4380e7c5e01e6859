"""The sections on what was asked beyond the figures: slices, the operating point, robustness."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

from device_agent.contract.codec import read_document_file
from toolkit.evaluation.findings import Findings
from toolkit.evaluation.robustness import KindMean, Robustness
from toolkit.evaluation.scores import EVALUATION_SCHEMA, is_of_today
from toolkit.operating_point.bounds import Share
from toolkit.operating_point.point import OperatingPoint, read_operating_point
from toolkit.page import Section, Table, png_picture
from toolkit.runs import Run

Document = TypeVar("Document", bound=msgspec.Struct)


def slices(run: Run) -> Section:
    """The verdicts of every question that was asked, and the slices as tables."""
    sentences, tables, warnings = [], [], []
    for path in sorted((run.dir / "evaluation").glob("*.findings.json")):
        found = _read(path, Findings)
        if not is_of_today(run, found.artifact, found.artifact_sha256, found.data_sha256):
            warnings.append(left_out(f"What was asked of {found.artifact} ({found.split})", "evaluate"))
            continue
        sentences += [f"{found.artifact} ({found.split}): {verdict}." for verdict in _verdicts(found)]
        tables += [_slice_table(found, place) for place in range(len(found.slices))]
    return Section(title="Slices and comparisons", sentences=sentences, warnings=warnings, tables=tables)


def left_out(what: str, command: str) -> str:
    """The sentence on a result that is not of what the run has now."""
    return f"{what} is of another artifact or other data than there are now and is left out; lineside {command} again."


def _verdicts(found: Findings) -> list[str]:
    parts = [*found.slices, *found.equalised_odds, found.simple_rule, found.ceiling, found.elsewhere]
    said = [part.verdict.rstrip(".") for part in parts if part is not None]
    missed = found.missed()
    if found.gates or found.failures is not None:
        said.append(f"missed: {'; '.join(missed)}" if missed else "all gates and known failures are passed")
    return said


def _slice_table(found: Findings, place: int) -> Table:
    one = found.slices[place]
    rows = [
        [
            part.value,
            f"{part.figure.value:.3f} ({part.figure.low:.3f} to {part.figure.high:.3f})",
            str(part.figure.images),
            str(part.figure.groups),
            "" if part.enough else "too few to say",
        ]
        for part in one.slices
    ]
    caption = f"{found.artifact}, {found.split}; 95 % intervals over parts; the worst first."
    return Table(columns=[one.column, one.metric, "images", "parts", ""], rows=rows, caption=caption)


def operating_point(run: Run) -> Section:
    """Costs, band, bounds and what is missing for a claim, of each artifact that has a point."""
    points = [point for name in run.artifacts() if (point := read_operating_point(run, name)) is not None]
    if not points:
        return Section(title="Operating point")
    pictures = [
        png_picture(run.dir / "operating_point" / f"{point.artifact}.png", f"{point.artifact}: cost, escape, overkill")
        for point in points
    ]
    return Section(
        title="Operating point",
        sentences=[_said(point) for point in points],
        warnings=[
            f"{point.artifact}: an escape rate of {_percent(point.needed.claim)} is not shown by these images."
            for point in points
            if not point.claim_shown
        ],
        tables=[_point_table(points)],
        pictures=[picture for picture in pictures if picture is not None],
    )


def _said(point: OperatingPoint) -> str:
    passes = f"a part passes up to a defect score of {point.low_score:.4g}"
    between = "" if point.high == point.low else ", goes to a person from there"
    costs = point.costs
    return (
        f"{point.artifact}: {passes}{between}, is rejected from {point.high_score:.4g}. An escape costs "
        f"{costs.escape:g}, an overkill {costs.overkill:g}; {point.rates.cost_per_1000:.2f} per 1,000 parts, "
        f"{point.accept_all:.2f} if all passed."
    )


def _point_table(points: list[OperatingPoint]) -> Table:
    columns = [
        "artifact",
        "escape (at most)",
        "worst class, at most",
        "overkill (at most)",
        "review",
        "images",
        "parts",
    ]
    rows = []
    for point in points:
        worst = next(one for one in point.by_class if one.label == point.worst_class)
        cells = [point.artifact, _bounded(point.escape), f"{worst.label} {_percent(worst.together.upper)}"]
        cells += [_bounded(point.overkill), _percent(point.review.rate), str(point.images), str(point.groups)]
        rows.append(cells)
    certain = " and ".join(f"{100 * one:g} %" for one in sorted({point.confidence for point in points}))
    caption = f"Measured on validation images of other groups; bounds hold with {certain} each."
    return Table(columns=columns, rows=rows, caption=caption)


def robustness(run: Run) -> Section:
    """Figures under corruption of each artifact that was tried, with the heat maps."""
    found, pictures, warnings = [], [], []
    for name in run.artifacts():
        one = read_document_file(run.dir / "robustness" / f"{name}.json", Robustness, reads="1.0")
        if one is None:
            continue
        if not is_of_today(run, name, one.artifact_sha256, one.data_sha256):
            warnings.append(left_out(f"The robustness of {name}", "robustness"))
            continue
        found.append(one)
        pictures.append(png_picture(run.dir / "robustness" / f"{name}.png", f"{name} by kind and severity"))
    if not found:
        return Section(title="Robustness", warnings=warnings)
    rows = [
        [
            one.artifact,
            f"{len(one.kinds)} at {', '.join(map(str, one.severities))}",
            f"{one.clean.error:.3f}",
            f"{one.mean_error:.3f} ({one.mean_error_interval[0]:.3f} to {one.mean_error_interval[1]:.3f})",
            f"{one.mean_macro_f1:.3f}",
            "-" if one.mean_defect_recall is None else f"{one.mean_defect_recall:.3f}",
            ", ".join(f"{kind.kind} {kind.error:.3f}" for kind in _worst(one)),
        ]
        for one in found
    ]
    measured = ["error, clean", "error, corrupted", "macro-F1", "defect recall", "worst kinds"]
    columns = ["artifact", "kinds at severities", *measured]
    caption = "Mean over kinds and severities of corruption of the validation images; 95 % intervals over parts."
    return Section(
        title="Robustness",
        warnings=warnings,
        tables=[Table(columns=columns, rows=rows, caption=caption)],
        pictures=[picture for picture in pictures if picture is not None],
    )


def _worst(one: Robustness) -> list[KindMean]:
    return sorted(one.by_kind, key=lambda kind: -kind.error)[:3]


def _read(path: Path, kind: type[Document]) -> Document:
    document = read_document_file(path, kind, reads=EVALUATION_SCHEMA)
    if document is None:
        raise FileNotFoundError(path)
    return document


def _bounded(share: Share) -> str:
    return f"{_percent(share.rate)} ({_percent(share.upper)})"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
