"""Known failures: images that a model once got wrong, kept by the user, which every later model must get right.

The list is a csv (or parquet) file with the columns file, class and, where `lineside evaluate --keep-failures` wrote
it, sha256 of the file's bytes. Files are relative to the folder of the list; "scratch|pit" names two marks.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput, NotFound
from device_agent.contract.files import write_whole
from toolkit.data.classes import BETWEEN
from toolkit.data.images import Dataset
from toolkit.data.tables import csv_text, read_table
from toolkit.evaluation.answers import Answers, infer_on
from toolkit.evaluation.figures import Judged
from toolkit.evaluation.metrics import softmax
from toolkit.evaluation.scores import roles_of, task_of
from toolkit.paths import reading
from toolkit.runs import Run

HEADER = ("file", "class", "sha256")


class Known(msgspec.Struct, frozen=True):
    """One image of the list: its path as the list says it, the class that is wanted, and the digest of its bytes."""

    file: str
    wanted: str
    sha256: str


class Failed(msgspec.Struct, frozen=True):
    """An image that is still wrong: what was wanted, what was said."""

    file: str
    wanted: str
    said: str


class FailureCheck(msgspec.Struct, frozen=True, kw_only=True):
    """How a model does on the list. `trained_on` of the images were in its training, so that they prove little."""

    list_: str = msgspec.field(name="list")
    artifact: str
    images: int
    trained_on: int
    failed: list[Failed]


def read_failures(path: Path, names: Sequence[str]) -> list[Known]:
    """The images of a list, each checked to be there and to be the one that was kept.

    Raises:
        NotFound: no such list.
        BadInput: no image, a column missing, a class that the run does not have, a file that is gone or has changed.
    """
    with reading(path):
        if not path.is_file():
            raise NotFound(f"{path}: no such list; keep one with: lineside evaluate RUN --keep-failures {path}")
    table = read_table(path)
    files, classes = table.take_needed("file"), table.take_needed("class", "label")
    digests = table.take("sha256") or [""] * len(files)
    known = []
    for row, (file, wanted, kept) in enumerate(zip(files, classes, digests, strict=True)):
        unknown = [name for name in wanted.split(BETWEEN) if name not in names]
        if unknown:
            raise BadInput(f"{table.where(row)}: no class {unknown[0]!r} in the run; it has {', '.join(names)}")
        image = path.parent / file
        with reading(image):
            if not file or not image.is_file():
                raise BadInput(f"{table.where(row)}: {file or 'no file'} does not exist")
            digest = hashlib.sha256(image.read_bytes()).hexdigest()
        if kept and digest != kept:
            raise BadInput(f"{table.where(row)}: {file} is another image than the one that was kept; put it back")
        known.append(Known(file, wanted, digest))
    if not known:
        raise BadInput(f"{path}: no image is listed")
    return known


def check_failures(run: Run, name: str, path: Path, *, threads: int = 1) -> FailureCheck:
    """Ask a model for every image of the list.

    Raises:
        NotFound, BadInput: as `read_failures`.
    """
    names = [label.name for label in run.labels]
    known = read_failures(path, names)
    wanted = np.array([[name in one.wanted.split(BETWEEN) for name in names] for one in known])
    dataset = Dataset(
        dir=path.parent,
        files=[one.file for one in known],
        labels=wanted.argmax(axis=1).astype(np.int64),
        names=names,
        roles=roles_of(run),
        groups=np.array([one.file for one in known]),
    )
    logits, _ = infer_on(run, name, dataset, np.arange(len(known)), threads=threads)
    said = Judged(
        logits=logits,
        probabilities=softmax(logits),
        labels=dataset.labels,
        groups=dataset.groups,
        names=names,
        roles=roles_of(run),
        task=task_of(run),
    ).said()
    trained = set(run.dataset().only(run.rows("train").tolist()).digests())
    return FailureCheck(
        list_=str(path),
        artifact=name,
        images=len(known),
        trained_on=sum(one.sha256 in trained for one in known),
        failed=[
            Failed(one.file, one.wanted, _cell(row, names))
            for one, row, right in zip(known, said, (said == wanted).all(axis=1), strict=True)
            if not right
        ],
    )


def keep_failures(run: Run, judged: Judged, answers: Answers, path: Path) -> int:
    """Append the images that are wrong to a list, each once; how many were new. Their files stay where they are.

    Raises:
        BadInput: a list that is there and is none, or the same image in it with another class.
        NotWritable: the disk is full or read-only.
    """
    names, folder = judged.names, run.dataset().dir
    before = read_failures(path, names) if path.exists() else []
    if path.suffix.lower() == ".parquet":
        raise BadInput(f"{path}: images are kept in a csv file")
    classes = {one.sha256: one.wanted for one in before}
    new = []
    truth = judged.truth()
    for row in np.flatnonzero((judged.said() != truth).any(axis=1)):
        image = folder / answers.files[row]
        with reading(image):
            digest = hashlib.sha256(image.read_bytes()).hexdigest()
        wanted = _cell(truth[row], names)
        if classes.get(digest, wanted) != wanted:
            raise BadInput(f"{path}: {answers.files[row]} is kept as {classes[digest]}, the data set says {wanted}")
        if digest not in classes:
            new.append(Known(os.path.relpath(image, path.parent), wanted, digest))
        classes[digest] = wanted
    write_whole(path, _with(path, before, new))
    return len(new)


def _with(path: Path, before: list[Known], new: list[Known]) -> str:
    """The text of the list with new images at its end; other columns that the user gave it stay."""
    there = read_table(path).columns if before else {}
    others = {name: values for name, values in there.items() if name not in (*HEADER, "label")}
    rows = [(*msgspec.structs.astuple(one), *cells) for one, *cells in zip(before, *others.values(), strict=True)]
    rows += [(*msgspec.structs.astuple(one), *([""] * len(others))) for one in new]
    return csv_text([*HEADER, *others], rows)


def _cell(row: NDArray[np.bool_], names: Sequence[str]) -> str:
    return BETWEEN.join(name for name, is_ in zip(names, row, strict=True) if is_)
