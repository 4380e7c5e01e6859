"""A split that is written down, with the digest of every image, so that every later training uses the same one.

split.csv begins with one line of JSON after "# lineside split ", which says how the split was made and the SHA-256 of
all that follows: a table of file, class, group, split, sha256 (of the file's bytes) and, where folds were asked for,
fold. The class is there to be read; images whose class is corrected keep their place.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput, NotFound
from device_agent.contract.files import write_whole
from toolkit.data import listing
from toolkit.data.images import Dataset, Progress
from toolkit.data.listing import SPLITS
from toolkit.data.splits import SHARES, check_split, folds, split
from toolkit.data.tables import csv_text
from toolkit.data.time_split import Period, split_by_time
from toolkit.paths import reading

HEAD = "# lineside split "
COLUMNS = ["file", "class", "group", "split", "sha256"]
SPLIT_SCHEMA = "1.0"


class SplitNote(msgspec.Struct, frozen=True, kw_only=True):
    """How a split was made; `sha256` is the digest of its table, and so of every image in it."""

    schema: str = SPLIT_SCHEMA
    by: Literal["group", "time", "manifest"]
    seed: int
    shares: tuple[float, float, float]
    folds: int = 0
    sha256: str


class SplitRow(msgspec.Struct, frozen=True, kw_only=True):
    """Images and groups of one class on each side."""

    name: str
    images: dict[str, int]
    groups: dict[str, int]


class SplitResult(msgspec.Struct, frozen=True, kw_only=True):
    """What was written to `path`; `periods` where the split is by time; images of each fold where there are folds."""

    path: str
    note: SplitNote
    images: int
    groups: int
    rows: list[SplitRow]
    periods: list[Period] = []
    fold_images: list[int] = []


class _Lines(NamedTuple):
    note: SplitNote
    header: list[str]
    rows: list[list[str]]


def split_path(dataset: Dataset) -> Path:
    """Where the split of a data set lies, see `listing.split_path`."""
    return listing.split_path(dataset.dir, dataset.manifest)


def choose_split(
    dataset: Dataset, seed: int, *, path: Path | None = None, fold: int | None = None, progress: Progress | None = None
) -> tuple[NDArray[np.str_], str]:
    """The split (n,) that a training takes, and whose it is: "by FILE", "by the manifest" or "by seed N".

    It is that of the split file `path`, else of the one that lies with the data, else the manifest's, else a new one.

    Raises:
        BadInput: what `read_split_file` and `splits.split` raise.
    """
    lies_there = split_path(dataset)
    if path is None and lies_there.exists():
        path = lies_there
    if path is not None:
        return read_split_file(path, dataset, fold=fold, progress=progress), f"by {path}"
    if fold is not None:
        raise BadInput(f"{dataset.source}: no split file there; write one with: lineside data split --folds")
    return split(dataset, seed), "by the manifest" if dataset.splits is not None else f"by seed {seed}"


def write_split_file(
    dataset: Dataset,
    path: Path,
    *,
    by: Literal["group", "time"] = "group",
    column: str = "time",
    shares: tuple[float, float, float] = SHARES,
    seed: int = 0,
    k: int = 0,
    anew: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> SplitResult:
    """Split the data set and write it down. A split in the manifest is taken as it is, unless `anew`.

    With `k` folds, fold 0 is the test split, fold 1 validation and the others training; `read_split_file` turns them.

    Raises:
        BadInput: the images cannot be split so; another split is in `path`, and not `force`.
        NotWritable: the disk is full, read-only or forbids it.
    """
    stated = dataset.splits is not None and not anew
    if stated and (by == "time" or k):
        raise BadInput(f"{dataset.source}: has a column split; --anew draws another in its place")
    if by == "time" and k:
        raise BadInput("folds are by group; a split by time has one order and no folds")
    if dataset.splits is not None and anew:
        dataset = replace(dataset, splits=None)
    periods: list[Period] = []
    fold = _fold(dataset, k, seed) if k else None
    if fold is not None:
        sides = _turned(fold, k, 0)
        check_split(dataset, sides)
    elif by == "time":
        sides, periods = split_by_time(dataset, shares, column)
        check_split(dataset, sides)
    else:
        sides = split(dataset, seed, shares)
    columns = [dataset.files, dataset.cells(), dataset.groups.tolist(), sides.tolist(), dataset.digests(progress)]
    header = COLUMNS if fold is None else [*COLUMNS, "fold"]
    rows = zip(*columns, *([] if fold is None else [fold.tolist()]), strict=True)
    text, note = _sealed(csv_text(header, rows), by="manifest" if stated else by, seed=seed, shares=shares, folds=k)
    _write(path, text, force)
    return SplitResult(
        path=str(path),
        note=note,
        images=len(dataset),
        groups=len(np.unique(dataset.groups)),
        rows=_summary(dataset, sides),
        periods=periods,
        fold_images=[] if fold is None else np.bincount(fold, minlength=k).tolist(),
    )


def read_split_file(
    path: Path, dataset: Dataset, *, fold: int | None = None, progress: Progress | None = None
) -> NDArray[np.str_]:
    """ "train", "val" or "test" of each image: (n,) str, as the file says, with `fold` of its folds as the test split
    and the next one as validation. Reads every image once.

    Raises:
        NotFound: no such file.
        BadInput: it was not written by `lineside data split` or was changed since; images were changed, added or taken
            away since; groups or equal pixels stand on two sides; no such fold.
    """
    note, header, rows = _read(path)
    again = f"lineside data split {dataset.source} --force writes another"
    place = {row[0]: row for row in rows}
    known = set(dataset.files)
    gone = [row[0] for row in rows if row[0] not in known]
    if gone:
        raise BadInput(f"{path}: {len(gone)} images of the split are gone, first {gone[0]}; put them back, or {again}")
    new = [file for file in dataset.files if file not in place]
    if new:
        raise BadInput(f"{path}: {len(new)} images of {dataset.source} are not in the split, first {new[0]}; {again}")
    at = header.index("sha256")
    digests = dataset.digests(progress)
    changed = [file for file, found in zip(dataset.files, digests, strict=True) if place[file][at] != found]
    if changed:
        raise BadInput(
            f"{path}: {len(changed)} images were changed since the split, first {changed[0]}; put them back, or {again}"
        )
    if fold is None:
        sides = np.array([place[file][header.index("split")] for file in dataset.files])
    elif not 0 <= fold < note.folds:
        raise BadInput(f"{path}: has {f'folds 0 to {note.folds - 1}' if note.folds else 'no folds'}, got fold {fold}")
    else:
        numbers = [int(place[file][header.index("fold")]) for file in dataset.files]
        sides = _turned(np.array(numbers), note.folds, fold)
    try:
        check_split(dataset, sides)
    except BadInput as error:
        raise BadInput(f"{error}; the split is that of {path}: {again}") from error
    return sides


def without_files(path: Path, gone: Collection[str]) -> str:
    """The text of a split file without the images in `gone`; the others stay where they were.

    Raises:
        BadInput: as `read_split_file`.
    """
    note, header, rows = _read(path)
    table = csv_text(header, [row for row in rows if row[0] not in gone])
    return _sealed(table, by=note.by, seed=note.seed, shares=note.shares, folds=note.folds)[0]


def _sealed(
    table: str, *, by: Literal["group", "time", "manifest"], seed: int, shares: tuple[float, float, float], folds: int
) -> tuple[str, SplitNote]:
    digest = hashlib.sha256(table.encode()).hexdigest()
    note = SplitNote(by=by, seed=seed, shares=shares, folds=folds, sha256=digest)
    return HEAD + msgspec.json.encode(note).decode() + "\n" + table, note


def _read(path: Path) -> _Lines:
    if not path.exists():
        raise NotFound(f"{path}: no such split file; write one with: lineside data split FOLDER --out {path}")
    try:
        with reading(path):
            head, _, table = path.read_bytes().decode().partition("\n")
        note = msgspec.json.decode(head.removeprefix(HEAD), type=SplitNote)
        rows = list(csv.reader(io.StringIO(table, newline=""), strict=True))
        whole = head.startswith(HEAD) and note.schema.startswith("1.") and rows[0][: len(COLUMNS)] == COLUMNS
    except (msgspec.DecodeError, UnicodeDecodeError, csv.Error, IndexError) as error:
        raise BadInput(f"{path}: is no split that lineside data split has written") from error
    if not whole:
        raise BadInput(f"{path}: is no split that lineside data split has written, or of a later version")
    if hashlib.sha256(table.encode()).hexdigest() != note.sha256:
        raise BadInput(
            f"{path}: was changed since it was written; write it anew with lineside data split, or give a split of "
            "your own in the column split of a manifest"
        )
    return _Lines(note, rows[0], rows[1:])


def _write(path: Path, text: str, force: bool) -> None:
    with reading(path):
        other = path.exists() and path.read_bytes() != text.encode()
    if other and not force:
        raise BadInput(f"{path}: is there already and differs; --force replaces it")
    write_whole(path, text)


def _fold(dataset: Dataset, k: int, seed: int) -> NDArray[np.int64]:
    members = dataset.members()
    if k < len(SPLITS):
        raise BadInput(f"folds must be 3 or more, one for test and one for validation, got {k}")
    for label, name in enumerate(dataset.names):
        groups = len(np.unique(dataset.groups[members[:, label]]))
        if groups < k:
            raise BadInput(f"{dataset.source}: class {name!r} has {groups} groups, too few for {k} folds")
    fold = folds(dataset.labels, dataset.groups, k, seed)
    for number in range(k):
        there = members[fold == number].any(axis=0)
        if not there.all():
            absent = dataset.names[int(there.argmin())]
            raise BadInput(f"{dataset.source}: class {absent!r} has no image in fold {number}; take fewer folds")
    return fold


def _turned(fold: NDArray[np.int64], k: int, test: int) -> NDArray[np.str_]:
    """Fold `test` as the test split, the next as validation.

    >>> _turned(np.array([0, 1, 2, 3]), 4, 3).tolist()
    ['val', 'train', 'train', 'test']
    """
    out = np.full(len(fold), "train", "<U5")
    out[fold == test] = "test"
    out[fold == (test + 1) % k] = "val"
    return out


def _summary(dataset: Dataset, sides: NDArray[np.str_]) -> list[SplitRow]:
    members = dataset.members()
    rows = []
    for label, name in enumerate(dataset.names):
        mine = {side: members[:, label] & (sides == side) for side in SPLITS}
        rows.append(
            SplitRow(
                name=name,
                images={side: int(chosen.sum()) for side, chosen in mine.items()},
                groups={side: len(np.unique(dataset.groups[chosen])) for side, chosen in mine.items()},
            )
        )
    return rows
