"""Which files a data set has and what is said about each, from a manifest or from folders; no file is decoded."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from device_agent.contract.errors import BadInput
from toolkit.data.classes import BETWEEN
from toolkit.data.tables import TABLES, Table, read_table
from toolkit.paths import reading

SPLITS = ("train", "val", "test")
_SPLIT_FOLDERS = frozenset({*SPLITS, "valid", "validation", "testing", "training"})
MANIFEST = "manifest.csv"
MANIFESTS = (MANIFEST, "manifest.parquet")
MEANT = frozenset({"file", "class", "label", "group", "part", "split"})  # columns that tell what an image is
SPLIT_FILE = "split.csv"
ANNOTATIONS = "annotations.csv"
ABOUT = frozenset({*MANIFESTS, SPLIT_FILE, ANNOTATIONS, "labels.json", "README.md"})  # tell about the images


@dataclass(frozen=True)
class Listing:
    """One entry an image: file relative to the folder, class, group and split (None where nothing is said; a group may
    be empty), and the other columns. With `several`, the class is a list of marks such as "scratch|pit", or empty."""

    files: list[str]
    classes: list[str]
    groups: list[str] | None = None
    splits: list[str] | None = None
    columns: dict[str, list[str]] = field(default_factory=dict)
    several: bool = False


def find_manifest(path: Path) -> Path | None:
    """The manifest that `path` is, or that lies in the folder `path`; None for a folder of class folders.

    Raises:
        BadInput: a file that is no table, or two manifests in the folder.
    """
    if path.is_file():
        if path.suffix.lower() in TABLES:
            return path
        raise BadInput(f"{path}: is a file; a data set is a folder with one folder per class, or with {MANIFEST}")
    found = [path / name for name in MANIFESTS if (path / name).exists()]
    if len(found) > 1:
        raise BadInput(f"{path}: has {' and '.join(MANIFESTS)}; name the one that is meant, or take the other away")
    return found[0] if found else None


def split_path(folder: Path, manifest: Path | None) -> Path:
    """Where the split of a data set lies: split.csv beside its manifest, NAME.split.csv for a manifest NAME.csv."""
    if manifest is None or manifest.name in MANIFESTS:
        return folder / SPLIT_FILE
    return folder / f"{manifest.stem}.{SPLIT_FILE}"


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
        found = [path for path in walk(folder / name) if path.suffix.lower() in known]
        if not found:
            raise BadInput(f"{folder / name}: no image in this class folder ({formats})")
        files += [_nameable(folder, path) for path in found]
        classes += [name] * len(found)
    if not files:
        raise BadInput(
            f"{folder}: no image there; a data set is a folder with one folder of images per class ({formats})"
        )
    _check_links(folder, files)
    return Listing(files, classes)


def list_manifest(path: Path) -> Listing:
    """What a manifest says, in its order.

    Raises:
        BadInput: not a table, a column twice or in capitals, none for file or class, a file that does not exist, stands
            twice or lies outside the folder, an image without a class where no other has several, a split of another
            name or only for some images.
    """
    table = read_table(path)
    if not len(table):
        raise BadInput(f"{path}: no image is listed")
    for name in table.columns:
        if name.lower() in MEANT and name not in MEANT:
            raise BadInput(f"{path}: column {name!r} must be written {name.lower()!r}")
    files = _check_files(path, table.take_needed("file"))
    classes = table.take_needed("class", "label")
    several = any(BETWEEN in cell for cell in set(classes))
    if "" in classes and not several:
        raise BadInput(f"{table.where(classes.index(''))} has no class")
    groups = table.take("group", "part")
    splits = _check_splits(table, table.take("split"))
    return Listing(files, classes, groups if groups and any(groups) else None, splits, table.columns, several)


def passed_over(folder: Path, files: Iterable[str]) -> dict[str, int]:
    """How many files in the folder are no part of the data set `files`, by place and suffix, such as {"good/*.gif": 3};
    hidden ones and those that tell about the images are not counted.

    Raises:
        BadInput: a folder that cannot be read.
    """
    taken, counts = {folder / file for file in files}, Counter[str]()
    for entry in _entries(folder):
        for path in walk(folder / entry.name) if entry.is_dir() else [folder / entry.name]:
            if path not in taken and path.relative_to(folder).as_posix() not in ABOUT:
                counts[f"{entry.name}/*{path.suffix}" if entry.is_dir() else f"*{path.suffix}"] += 1
    return dict(sorted(counts.items()))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with reading(folder), os.scandir(folder) as entries:
        return sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)


def walk(folder: Path, above: frozenset[str] = frozenset()) -> list[Path]:
    """All files below a folder, in alphabetical order and but for hidden ones. Links are followed, but not round in a
    circle; one that leads nowhere is in the list."""
    found: list[Path] = []
    above |= {os.path.realpath(folder)}
    for entry in _entries(folder):
        path = folder / entry.name
        if entry.is_dir():
            found += walk(path, above) if os.path.realpath(path) not in above else []
        elif entry.is_file() or entry.is_symlink():
            found.append(path)
    return found


def _nameable(folder: Path, path: Path) -> str:
    """The file as a manifest names it, whose cells have no blanks around them."""
    file = within(folder, path.relative_to(folder).as_posix())
    if any(cell != cell.strip() for cell in (file, file.split("/")[0])):
        raise BadInput(f"{folder}: {file!r} begins or ends with a blank; rename it")
    return file


def _check_links(folder: Path, files: list[str]) -> None:
    links = [file for file in files if (folder / file).is_symlink() and not (folder / file).exists()]
    if links:
        raise BadInput(
            f"{folder}: {len(links)} of {len(files)} files are links that lead nowhere, first {links[0]}; fetch what "
            "they stand for, or take them away"
        )


def _check_splits(table: Table, splits: list[str] | None) -> list[str] | None:
    if splits is None or not any(splits):
        return None
    for row, split in enumerate(splits):
        if split not in SPLITS:
            raise BadInput(f"{table.where(row)}: split must be one of {', '.join(SPLITS)}, got {split!r}")
    return splits


def _check_files(path: Path, files: list[str]) -> list[str]:
    """The files in one spelling each, so that a/./b.png and a/b.png are the same."""
    files = [within(path, file) for file in files]
    if len(set(files)) < len(files):
        twice = next(file for file, count in Counter(files).items() if count > 1)
        raise BadInput(f"{path}: {twice} is listed twice")
    with reading(path):
        missing = [file for file in files if not _there(path.parent, file)]
    if missing:
        hint = "; paths are written with /" if "\\" in missing[0] else ""
        raise BadInput(f"{path}: {len(missing)} of {len(files)} files do not exist, first {missing[0]}{hint}")
    return files


def within(path: Path, file: str) -> str:
    """The one spelling of a file that the table `path` names, which is a path within the folder of the table.

    >>> within(Path("set/manifest.csv"), "pit/./1.png")
    'pit/1.png'

    Raises:
        BadInput: empty, absolute, with "..", or with a character that is none.
    """
    if not file.isprintable() and any(unicodedata.category(character) in ("Cc", "Cs") for character in file):
        raise BadInput(f"{path}: file {file!r} has a control character in its name; rename it")
    parts = file.split("/")
    if "" not in parts and "." not in parts and ".." not in parts:
        return file
    tidy = PurePosixPath(file)
    if tidy.is_absolute() or ".." in tidy.parts or tidy == PurePosixPath():
        raise BadInput(f"{path}: file {file!r} must be a path within the folder")
    return tidy.as_posix()


def _there(folder: Path, file: str) -> bool:
    try:
        return stat.S_ISREG((folder / file).stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
