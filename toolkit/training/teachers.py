"""Teachers of a distillation: trained runs whose classes are the student's, and that were not taught what the student
is judged on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from converters.artifact import file_sha256
from device_agent.contract.errors import BadInput
from toolkit.data.images import Dataset
from toolkit.runs import Run, open_run
from toolkit.training.leaks import leak_notes


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
        teacher = Teacher(run, file_sha256(run.model_path), columns, notes + leak_notes(run, dataset, split))
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
