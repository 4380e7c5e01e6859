"""The same model on another labelled folder, such as real images after synthetic ones: figures side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np

from device_agent.contract.errors import BadInput
from toolkit.data.images import Dataset, open_dataset, pixel_digests
from toolkit.evaluation.answers import Progress, collect, infer_on
from toolkit.evaluation.figures import Figure, measure_figures
from toolkit.evaluation.scores import Evaluation, judge, roles_of, task_of
from toolkit.runs import Run

SHOWN = ("accuracy", "balanced-accuracy", "macro-f1", "mean-ap", "ece", "defect-recall", "false-alarm-rate")


class GapFigure(msgspec.Struct, frozen=True, kw_only=True):
    """One figure at home (the run's split) and elsewhere; `difference` is elsewhere less home, with its 95 %
    interval."""

    name: str
    home: Figure
    elsewhere: Figure
    difference: float
    low: float
    high: float


class Elsewhere(msgspec.Struct, frozen=True, kw_only=True):
    """A model on the images of another folder. `missing` are classes of the run that have no image there: the means
    over classes are then of other classes than at home."""

    artifact: str
    folder: str
    images: int
    groups: int
    missing: list[str]
    figures: list[GapFigure]
    verdict: str


def evaluate_elsewhere(
    run: Run,
    home: Evaluation,
    folder: Path,
    *,
    mapping: Mapping[str, str] | None = None,
    threads: int = 1,
    progress: Progress | None = None,
) -> Elsewhere:
    """Ask the model for every image of `folder`, at the temperature of its validation images.

    Args:
        mapping: classes of the folder by another name in the run.

    Raises:
        BadInput: a class that the run does not have, or a picture that it was trained on (by its pixels).
    """
    dataset = _in_classes(run, open_dataset(folder), mapping or {}, folder)
    _refuse_trained(run, dataset)
    rows = np.arange(len(dataset))
    logits, version = infer_on(run, home.artifact, dataset, rows, threads=threads, progress=progress)
    judged = judge(run, collect(dataset, rows, logits, version), home.temperature)
    away = measure_figures(judged, rng=np.random.default_rng(0))
    names = [name for name in (*SHOWN, *_recalls(run)) if name in home.figures and name in away]
    figures = [_gap(name, home.figures[name], away[name]) for name in names]
    present = np.asarray(judged.truth().any(axis=0))
    return Elsewhere(
        artifact=home.artifact,
        folder=str(folder),
        images=len(dataset),
        groups=len(np.unique(dataset.groups)),
        missing=[name for name, there in zip(judged.names, present, strict=True) if not there],
        figures=figures,
        verdict=_verdict(next(one for one in figures if one.name == "balanced-accuracy")),
    )


def difference_interval(first: Figure, second: Figure) -> tuple[float, float]:
    """95 % interval of second less first, of independent images, from their own intervals (Newcombe 1998, method 10;
    Zou and Donner 2008).

    >>> low, high = difference_interval(Figure(0.9, 0.8, 0.95, 50, 50), Figure(0.5, 0.4, 0.6, 50, 50))
    >>> round(low, 3), round(high, 3)
    (-0.512, -0.259)
    """
    value = second.value - first.value
    low = value - math.hypot(second.value - second.low, first.high - first.value)
    high = value + math.hypot(second.high - second.value, first.value - first.low)
    return max(low, -1.0), min(high, 1.0)


def _recalls(run: Run) -> list[str]:
    return [f"recall.{label.name}" for label in run.labels]


def _in_classes(run: Run, dataset: Dataset, mapping: Mapping[str, str], folder: Path) -> Dataset:
    """The data set with the labels of the run."""
    names = [label.name for label in run.labels]
    stray = [name for name in mapping if name not in dataset.names]
    if stray:
        raise BadInput(f"{folder}: no class {stray[0]!r} to rename; it has {', '.join(dataset.names)}")
    renamed = [mapping.get(name, name) for name in dataset.names]
    unknown = [name for name in renamed if name not in names]
    if unknown:
        raise BadInput(
            f"{folder}: the run has no class {unknown[0]!r}, it has {', '.join(names)}; "
            f"say which it is with --map '{unknown[0]}=CLASS'"
        )
    places = np.array([names.index(name) for name in renamed])
    marks = None
    if task_of(run) == "labels":
        marks = np.zeros((len(dataset), len(names)), bool)
        members = dataset.members() if dataset.marks is None else dataset.marks
        for place, at in enumerate(places):
            marks[:, at] |= members[:, place]
        marks[:, [role == "good" for role in roles_of(run)]] = False
    elif dataset.marks is not None:
        raise BadInput(f"{folder}: its images have several marks; the run has one class an image")
    return replace(dataset, names=names, roles=roles_of(run), labels=places[dataset.labels], marks=marks)


def trained_on(run: Run, dataset: Dataset) -> dict[int, str]:
    """The rows of a data set whose pixels are those of a training image of the run, and the name that it has there.

    Raises:
        NotFound, BadInput: the run's own images are gone, or were changed since.
    """
    trained = run.dataset().only(run.rows("train").tolist())
    known = dict(zip(pixel_digests(trained), trained.files, strict=True))
    ours = dataset.pixels if dataset.pixels is not None else pixel_digests(dataset)
    return {row: known[pixels] for row, pixels in enumerate(ours) if isinstance(pixels, bytes) and pixels in known}


def _refuse_trained(run: Run, dataset: Dataset) -> None:
    same = trained_on(run, dataset)
    if same:
        row, there = next(iter(same.items()))
        raise BadInput(
            f"{dataset.dir}: {len(same)} of {len(dataset)} pictures are training images of the run, first "
            f"{dataset.files[row]} (there {there}); take them out"
        )


def _gap(name: str, home: Figure, away: Figure) -> GapFigure:
    low, high = difference_interval(home, away)
    return GapFigure(name=name, home=home, elsewhere=away, difference=away.value - home.value, low=low, high=high)


def _verdict(gap: GapFigure) -> str:
    said = f"balanced accuracy {gap.home.value:.3f} at home, {gap.elsewhere.value:.3f} there"
    span = f"({gap.difference:+.3f}, {gap.low:+.3f} to {gap.high:+.3f})"
    if gap.high < 0:
        return f"worse there: {said} {span}"
    return f"{'better there' if gap.low > 0 else 'no gap beyond chance'}: {said} {span}"
