"""The sections of a run's report, each from what lies in the run folder; one whose source is not there is empty."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from device_agent.contract.benchmark import BenchmarkReport
from device_agent.contract.codec import read_document_file
from device_agent.contract.errors import BadInput, NotFound
from toolkit.evaluation.scores import Evaluation
from toolkit.page import Picture, Section, Table, png_picture
from toolkit.report.card import Card, licence_of, source_of
from toolkit.runs import Run

SPLITS = ("train", "val", "test")


def purpose(card: Card) -> Section:
    """What a person said of the model."""
    said = [("Intended use", card.intended_use), ("Not meant for", card.out_of_scope), ("Licence", card.licence)]
    said += [("Contact", card.contact), ("Notes", card.notes)]
    sentences = [f"{name}: {text}" for name, text in said if text]
    missing = [name.lower() for name, text in said[:3] if not text]
    warnings = [f"Not stated: {', '.join(missing)}. Write it into card.toml in the run folder."] if missing else []
    return Section(title="Purpose", sentences=sentences, warnings=warnings)


def data(run: Run) -> Section:
    """Images and parts of each class on each side of the split, digests, licence and source."""
    record, sentences, tables = run.record, [], []
    try:
        tables = [_counts(run)]
    except (BadInput, NotFound) as error:
        sentences.append(f"The images cannot be counted any more: {error}.")
    sentences.append(f"Folder: {run.data}.")
    sentences.append(f"Digest of every image, class and group: {record.data_sha256}.")
    sentences.append(f"Digest of the split: {record.split_sha256}.")
    folder, verbatim, warnings = run.data.parent if run.data.is_file() else run.data, [], []
    licence, source = licence_of(folder), source_of(folder)
    if licence is None:
        warnings.append("No licence lies with the images.")
    for excerpt in (licence, source):
        if excerpt is not None:
            verbatim.append(f"{excerpt.name}\n\n{excerpt.text}{' ...' if excerpt.cut else ''}")
    return Section(title="Data", sentences=sentences, warnings=warnings, tables=tables, verbatim=verbatim)


def _counts(run: Run) -> Table:
    dataset = run.dataset()
    columns = ["class", "role"] + [f"{split} {what}" for split in SPLITS for what in ("images", "parts")]
    rows = []
    for place, label in enumerate(run.labels):
        cells = [label.name, label.role]
        for split in SPLITS:
            chosen = run.rows(split)
            mine = chosen[dataset.labels[chosen] == place]
            cells += [str(len(mine)), str(len(np.unique(dataset.groups[mine])))]
        rows.append(cells)
    if run.record.prevalence is not None:
        columns.append("stated share on the line")
        rows = [[*row, f"{share:.4g}"] for row, share in zip(rows, run.record.prevalence, strict=True)]
    return Table(
        columns=columns, rows=rows, caption="Parts are groups: photographs of one part never stand on two sides."
    )


def training(run: Run) -> Section:
    """What was asked, what Keras measured, and the curves."""
    record = run.record
    figures = ", ".join(f"{name} {value:.4f}" for name, value in record.metrics.items())
    rows = [[name, _plain(value)] for name, value in record.recipe.items()]
    pictures = [
        png_picture(run.dir / "curves.png", "By epoch; the dashed line is the one that was kept."),
        png_picture(run.dir / "confusion.png", "Validation images by true and predicted class, Keras."),
    ]
    return Section(
        title="Training",
        sentences=[f"Measured by Keras on the validation images: {figures}."],
        tables=[Table(columns=["recipe", ""], rows=rows)],
        pictures=[picture for picture in pictures if picture is not None],
    )


def accuracy(run: Run, evaluations: Sequence[Evaluation]) -> Section:
    """Every artifact through the device's own code, with intervals over parts."""
    if not evaluations:
        return Section(title="Accuracy")
    first = evaluations[0]
    columns = ["artifact", "accuracy", "macro-F1", "balanced", "ECE", "temperature", "scored"]
    rows = [
        [
            one.artifact,
            _interval(one.accuracy, one.accuracy_interval),
            _interval(one.macro_f1, one.macro_f1_interval),
            f"{one.balanced_accuracy:.3f}",
            f"{one.ece:.3f}",
            f"{one.temperature:.2f}",
            one.split,
        ]
        for one in evaluations
    ]
    recall = [[name, *(_share(one.recall[place]) for one in evaluations)] for place, name in enumerate(first.labels)]
    tables = [
        Table(columns=columns, rows=rows, caption="Measured through the device's own code; 95 % intervals over parts."),
        Table(columns=["recall of", *(one.artifact for one in evaluations)], rows=recall),
    ]
    return Section(title="Accuracy", tables=tables, pictures=_plots(run, first.artifact))


def speed(run: Run) -> Section:
    """The benchmarks that were taken, and on what."""
    rows = []
    for path in sorted((run.dir / "benchmark").glob("*.json")):
        one = read_document_file(path, BenchmarkReport, reads="1.0")
        if one is not None:
            rss = "-" if one.rss_peak_mib is None else f"{one.rss_peak_mib:.0f}"
            figures = [f"{one.p50_ms:.3f}", f"{one.p99_ms:.3f}", rss, f"{one.size_mib:.2f}"]
            rows.append([path.stem, *figures, one.provenance, one.device, ", ".join(one.flags) or "-"])
    columns = ["artifact", "p50 ms", "p99 ms", "RSS MiB", "size MiB", "provenance", "device", "flags"]
    return Section(title="Speed and size", tables=[Table(columns=columns, rows=rows)] if rows else [])


def lineage(run: Run) -> Section:
    """What made the model: digests and versions, so that it can be made again."""
    packages = [[name, version] for name, version in sorted(run.record.packages.items())]
    return Section(
        title="Lineage",
        sentences=[f"Run {run.record.name}, seed {run.record.seed}; recipe under Training, digests under Data."],
        tables=[Table(columns=["package", "version"], rows=packages)],
    )


def _plots(run: Run, artifact: str) -> list[Picture]:
    """Reliability of all artifacts, and the curves and confusions of one."""
    folder = run.dir / "evaluation"
    found = [
        png_picture(folder / "reliability.png", "Confidence against the share of right answers."),
        png_picture(folder / f"{artifact}.precision-recall.png", f"Precision and recall, {artifact}."),
        png_picture(folder / f"{artifact}.confusion.png", f"True and predicted classes, {artifact}."),
    ]
    return [picture for picture in found if picture is not None]


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _interval(value: float, interval: tuple[float, float]) -> str:
    return f"{value:.3f} ({interval[0]:.3f} to {interval[1]:.3f})"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
