"""Which files a data set has and what is said about each, from a manifest.csv or from folders; no file is decoded."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from device_agent.contract.errors import BadInput
from toolkit.paths import reading

SPLITS = ("train", "val", "test")
_SPLIT_FOLDERS = frozenset({*SPLITS, "valid", "validation", "testing", "training"})
ABOUT = frozenset({"manifest.csv", "labels.json", "README.md"})  # tell about the images, and are none


@dataclass(frozen=True)
class Listing:
    """One entry an image: file relative to the folder, class, group and split (None where nothing is said; a group may
    be empty), and the other columns."""

    files: list[str]
    classes: list[str]
    groups: list[str] | None = None
    splits: list[str] | None = None
    columns: dict[str, list[str]] = field(default_factory=dict)


def list_folders(folder: Path, suffixes: Iterable[str]) -> Listing:
    """Images in one sub-folder per class, and in folders below it, in alphabetical order; hidden ones are passed over.

    Raises:
        BadInput: no class folder, folders of splits, one without images, or one that cannot be read.
    """
    known = frozenset(suffixes)
    names = [entry.name for entry in _entries(folder) if entry.is_dir()]
    if names and all(name.lower() in _SPLIT_FOLDERS for name in names):
        raise BadInput(f"{folder}: {', '.join(names)} are splits, not classes; give class and split in manifest.csv")
    formats = ", ".join(sorted(suffix[1:] for suffix in known))
    files: list[str] = []
    classes: list[str] = []
    for name in names:
        found = [path for path in _walk(folder / name) if path.suffix.lower() in known]
        if not found:
            raise BadInput(f"{folder / name}: no image in this class folder ({formats})")
        files += [path.relative_to(folder).as_posix() for path in found]
        classes += [name] * len(found)
    if not files:
        raise BadInput(
            f"{folder}: no image there; a data set is a folder with one folder of images per class ({formats})"
        )
    return Listing(files, classes)


def list_manifest(path: Path) -> Listing:
    """What manifest.csv says, in its order.

    Raises:
        BadInput: not a table, a column twice, none for file or class, a file that does not exist, stands twice or lies
            outside the folder, a split of another name or only for some images.
    """
    columns, lines = _read_table(path)
    files = _check_files(path, _take_needed(columns, path, "file"))
    classes = _take_needed(columns, path, "class", "label")
    groups = _take(columns, "group", "part")
    splits = _take(columns, "split")
    if "" in classes:
        raise BadInput(f"{path}: line {lines[classes.index('')]} has no class")
    if splits is not None and not any(splits):
        splits = None
    for line, split in zip(lines, splits or [], strict=False):
        if split not in SPLITS:
            raise BadInput(f"{path}: line {line}: split must be one of {', '.join(SPLITS)}, got {split!r}")
    return Listing(files, classes, groups if groups and any(groups) else None, splits, columns)


def passed_over(folder: Path, files: Iterable[str]) -> dict[str, int]:
    """How many files in the folder are no part of the data set `files`, by place and suffix, such as {"good/*.gif": 3};
    hidden ones and those that tell about the images are not counted.

    Raises:
        BadInput: a folder that cannot be read.
    """
    taken, counts = {folder / file for file in files}, Counter[str]()
    for entry in _entries(folder):
        for path in _walk(folder / entry.name) if entry.is_dir() else [folder / entry.name]:
            if path not in taken and path.relative_to(folder).as_posix() not in ABOUT:
                counts[f"{entry.name}/*{path.suffix}" if entry.is_dir() else f"*{path.suffix}"] += 1
    return dict(sorted(counts.items()))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with reading(folder), os.scandir(folder) as entries:
        return sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)


def _walk(folder: Path) -> list[Path]:
    found: list[Path] = []
    for entry in _entries(folder):
        if entry.is_dir(follow_symlinks=False):
            found += _walk(folder / entry.name)
        elif entry.is_file():
            found.append(folder / entry.name)
    return found


def _read_table(path: Path) -> tuple[dict[str, list[str]], list[int]]:
    """The columns of a csv file by name, at least one row long, and the line of the file on which each row ends."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as text:
            table = csv.reader(text, strict=True)
            rows = [(table.line_num, row) for row in table if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BadInput(f"{path}: cannot be read as a csv file in utf-8: {reason.lower()}") from error
    if len(rows) < 2:
        raise BadInput(f"{path}: no image is listed")
    header = [name.strip() for name in rows[0][1]]
    twice = next((name for name, count in Counter(header).items() if count > 1), None)
    if twice is not None:
        raise BadInput(f"{path}: column {twice!r} stands twice in the header; each name must stand once")
    for line, row in rows[1:]:
        if len(row) != len(header):
            raise BadInput(f"{path}: line {line} has {len(row)} fields, the header {len(header)}")
    columns = {name: [row[place].strip() for _, row in rows[1:]] for place, name in enumerate(header)}
    return columns, [line for line, _ in rows[1:]]


def _take(columns: dict[str, list[str]], *names: str) -> list[str] | None:
    """The first of the named columns that is there, taken out."""
    return next((columns.pop(name) for name in names if name in columns), None)


def _take_needed(columns: dict[str, list[str]], path: Path, *names: str) -> list[str]:
    header = ", ".join(columns)
    column = _take(columns, *names)
    if column is None:
        raise BadInput(f"{path}: no column {' or '.join(names)}; it has {header}")
    return column


def _check_files(path: Path, files: list[str]) -> list[str]:
    """The files in one spelling each, so that a/./b.png and a/b.png are the same."""
    for file in files:
        parts = PurePosixPath(file)
        if not file or parts.is_absolute() or ".." in parts.parts:
            raise BadInput(f"{path}: file {file!r} must be a path within the folder")
    files = [PurePosixPath(file).as_posix() for file in files]
    twice = next((file for file, count in Counter(files).items() if count > 1), None)
    if twice is not None:
        raise BadInput(f"{path}: {twice} is listed twice")
    with reading(path):
        missing = [file for file in files if not (path.parent / file).is_file()]
    if missing:
        raise BadInput(f"{path}: {len(missing)} of {len(files)} files do not exist, first {missing[0]}")
    return files
