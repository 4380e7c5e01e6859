"""Teachers of a distillation: trained runs whose classes are the student's, and that were not taught what the student
is judged on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from converters.artifact import file_sha256
from device_agent.contract.errors import BadInput, LinesideError
from toolkit.data.images import Dataset, open_dataset, pixel_digests
from toolkit.runs import Place, Run, open_run, read_split


class Teacher(NamedTuple):
    """A run that teaches. `columns` (classes,) are the teacher's logits in the order of the student's classes, `sha256`
    is the digest of its model file, `notes` what a person should know, a sentence each."""

    run: Run
    sha256: str
    columns: NDArray[np.int64]
    notes: list[str]


def open_teachers(
    folders: Sequence[Path], dataset: Dataset, split: NDArray[np.str_], *, task: str = "classes"
) -> list[Teacher]:
    """The runs in `folders`, each found fit to teach a student of `dataset`; `split` (n,) is "train", "val", "test".

    Raises:
        NotFound: no run there.
        BadInput: the same teacher twice; other classes, roles or another task than the student's; taught on images, or
            parts, that the student is judged on.
    """
    teachers: list[Teacher] = []
    for folder in folders:
        run = open_run(folder)
        columns, notes = _fitting(run, dataset, task)
        teacher = Teacher(run, file_sha256(run.model_path), columns, notes + _untaught(run, dataset, split))
        if any(teacher.sha256 == other.sha256 for other in teachers):
            raise BadInput(f"{folder}: this teacher is given twice; its answers would count double")
        teachers.append(teacher)
    return teachers


def _fitting(run: Run, dataset: Dataset, task: str) -> tuple[NDArray[np.int64], list[str]]:
    """The order of the teacher's logits for this student, and what there is to say of it."""
    theirs, ours = [label.name for label in run.labels], list(dataset.names)
    if set(theirs) != set(ours):
        lacks, has = sorted(set(ours) - set(theirs)), sorted(set(theirs) - set(ours))
        parts = [f"lacks {', '.join(lacks)}"] * bool(lacks) + [f"has {', '.join(has)}"] * bool(has)
        raise BadInput(f"{run.dir}: a teacher of other classes: it {' and '.join(parts)}; train one on {dataset.dir}")
    columns = np.array([theirs.index(name) for name in ours], np.int64)
    roles = [run.labels[column].role for column in columns]
    other = [name for name, role, own in zip(ours, roles, dataset.roles, strict=True) if role != own]
    if other:
        raise BadInput(
            f"{run.dir}: class {other[0]!r} is {roles[ours.index(other[0])]} to this teacher; roles must agree"
        )
    taught = str(run.record.recipe.get("task", "classes"))
    if (taught == "labels") != (task == "labels"):
        raise BadInput(f"{run.dir}: a teacher of task {taught} cannot teach task {task}: logits mean another thing")
    if theirs == ours:
        return columns, []
    return columns, [f"{run.dir}: its classes stand in another order; its answers are put into the student's"]


def _untaught(run: Run, dataset: Dataset, split: NDArray[np.str_]) -> list[str]:
    """Refuse a teacher that knows the student's validation or test images; what could not be compared, a sentence each.

    A student inherits what its teacher has seen: a figure on such images would not hold on the line. The test images
    must be new to the teacher altogether, those of validation may be its own validation images too.
    """
    places = read_split(run.dir / "split.csv", run.record.split_sha256)
    source = Path(run.record.data)
    folder = source.parent if source.is_file() else source  # a manifest that was named
    unknown = f"{run.dir}: whether it was taught the student's test images cannot be found out"
    try:
        same = folder.resolve() == dataset.dir.resolve()
        known, gone = _by_name(places, dataset) if same else _by_pixels(places, source, dataset)
    except LinesideError as error:
        return [f"{unknown}: {error}"]
    notes = [f"{unknown} for {gone} of its {len(places)} images, which are gone from {folder}"] if gone else []
    for name, forbidden in (("test", ("train", "val")), ("val", ("train",))):
        leaks = [row for row in np.flatnonzero(split == name) if known[row] & set(forbidden)]
        if leaks:
            raise BadInput(
                f"{run.dir}: was taught on {len(leaks)} images, or on parts, of the student's {name} split, "
                f"first {dataset.files[leaks[0]]}: no figure of the student would hold; give both the same --split-seed"
            )
    return notes


def _by_name(places: dict[str, Place], dataset: Dataset) -> tuple[list[set[str]], int]:
    """In which splits of the teacher each image, or another of its group, was; how many of the teacher's are gone."""
    of_group: dict[str, set[str]] = {}
    for place in places.values():  # those that the student has not, too
        of_group.setdefault(place.group, set()).add(place.split)
    for file, group in zip(dataset.files, dataset.groups, strict=True):
        if file in places:
            of_group.setdefault(str(group), set()).add(places[file].split)
    gone = sum(not (dataset.dir / file).exists() for file in places)
    return [of_group.get(str(group), set()) for group in dataset.groups], gone


def _by_pixels(places: dict[str, Place], source: Path, dataset: Dataset) -> tuple[list[set[str]], int]:
    """The same where the teacher's images lie elsewhere, in the folder or manifest `source`: by equal pixels."""
    theirs = open_dataset(source)
    seen: dict[bytes, set[str]] = {}
    for file, digest in zip(theirs.files, theirs.pixels or [], strict=True):
        if file in places:
            seen.setdefault(digest, set()).add(places[file].split)
    ours = dataset.pixels if dataset.pixels is not None else pixel_digests(dataset)
    of_group: dict[str, set[str]] = {}
    for group, pixels in zip(dataset.groups, ours, strict=True):
        if isinstance(pixels, BadInput):
            raise pixels
        of_group.setdefault(str(group), set()).update(seen.get(pixels, set()))
    gone = len(places.keys() - set(theirs.files))
    return [of_group[str(group)] for group in dataset.groups], gone
