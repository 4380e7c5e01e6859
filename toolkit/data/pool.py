"""Pictures in a folder, with or without classes: what can be labelled, spoilt or made anonymous.

A data set is a pool. So is a folder that a camera filled, with or without a manifest, and with no class in it.
"""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from device_agent.contract.errors import BadInput, NotFound
from device_agent.frames.picture import SUFFIXES
from toolkit.data.classes import ROLES_FILE
from toolkit.data.listing import MANIFEST, SPLITS, find_manifest, split_path, walk, within
from toolkit.data.tables import csv_text, read_table
from toolkit.paths import reading


@dataclass(frozen=True)
class Pool:
    """Files relative to `dir`, with forward slashes, and all other columns of the manifest, each with one entry a file
    and under its own name. Without a manifest there is the column "class" where every file is in a sub-folder."""

    dir: Path
    files: list[str]
    columns: dict[str, list[str]] = field(default_factory=dict)
    manifest: Path | None = None

    def __len__(self) -> int:
        return len(self.files)

    def column(self, *names: str) -> list[str] | None:
        """The first of the named columns that is there."""
        return next((self.columns[name] for name in names if name in self.columns), None)

    def only(self, rows: Sequence[int]) -> Pool:
        """The pictures of `rows`."""
        columns = {name: [values[row] for row in rows] for name, values in self.columns.items()}
        return replace(self, files=[self.files[row] for row in rows], columns=columns)


def open_pool(path: Path) -> Pool:
    """The pictures that a manifest, or the manifest of a folder, lists, in its order; without one all below the folder,
    in alphabetical order and but for hidden ones. None is decoded.

    Raises:
        NotFound: no such folder.
        BadInput: no pictures, a manifest that cannot be read or names files that are not there.
    """
    with reading(path):
        if not path.exists():
            raise NotFound(f"{path}: no such folder")
        manifest = find_manifest(path)
        return _found(path) if manifest is None else _listed(manifest)


def with_split(pool: Pool) -> Pool:
    """The pool with a column split, where none is in its manifest and one was written down beside it.

    Raises:
        BadInput: the split file does not place every picture.
    """
    written = split_path(pool.dir, pool.manifest)
    with reading(written):
        if "split" in pool.columns or not written.is_file():
            return pool
        return replace(pool, columns=pool.columns | {"split": _read_split(written, pool.files)})


def check_free(out: Path, source: Path) -> None:
    """Refuse to write into a folder in use, or into or around the one that is read.

    Raises:
        BadInput: `out` is a file, holds something, or shares a path with `source`.
    """
    with reading(out):
        if out.exists() and not out.is_dir():
            raise BadInput(f"{out}: is a file; a new folder is needed")
        if out.is_dir() and any(out.iterdir()):
            raise BadInput(f"{out}: is not empty; a new folder is needed")
        target, origin = out.resolve(), source.resolve()
    if origin == target or origin in target.parents or target in origin.parents:
        raise BadInput(f"{out}: must lie outside of {source}, which stays as it is")


def write_manifest(folder: Path, files: Sequence[str], columns: dict[str, list[str]]) -> None:
    """manifest.csv in `folder`: the files, then the columns as they are named."""
    rows = zip(files, *columns.values(), strict=True)
    (folder / MANIFEST).write_text(csv_text(["file", *columns], rows), encoding="utf-8")


def copy_roles(source: Path, folder: Path) -> None:
    """The roles of the classes, where `source` states them."""
    with reading(source / ROLES_FILE):
        if (source / ROLES_FILE).is_file():
            shutil.copyfile(source / ROLES_FILE, folder / ROLES_FILE)


def _listed(manifest: Path) -> Pool:
    table = read_table(manifest)
    files = [within(manifest, file) for file in table.take_needed("file")]
    if not files:
        raise BadInput(f"{manifest}: no image is listed")
    twice = next((name for name, count in Counter(files).items() if count > 1), None)
    if twice is not None:
        raise BadInput(f"{manifest}: {twice} is listed twice")
    missing = [file for file in files if not (manifest.parent / file).is_file()]
    if missing:
        raise BadInput(f"{manifest}: {len(missing)} of {len(files)} files do not exist, first {missing[0]}")
    return Pool(manifest.parent, files, table.columns, manifest)


def _found(folder: Path) -> Pool:
    below = sorted(path.relative_to(folder) for path in walk(folder) if path.suffix.lower() in SUFFIXES)
    files = [path for path in below if (folder / path).is_file()]
    if not files:
        raise BadInput(f"{folder}: no picture there ({', '.join(sorted(suffix[1:] for suffix in SUFFIXES))})")
    classes = [path.parts[0] for path in files if len(path.parts) > 1]
    columns = {"class": classes} if len(classes) == len(files) else {}
    return Pool(folder, [path.as_posix() for path in files], columns)


def _read_split(path: Path, files: list[str]) -> list[str]:
    try:
        with path.open(newline="", encoding="utf-8") as text:
            if not text.readline().startswith("# "):
                text.seek(0)
            sides = {line.get("file"): line.get("split") or "" for line in csv.DictReader(text)}
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path}: is no table of files and splits: {error}") from error
    strange = next((side for side in sides.values() if side not in SPLITS), None)
    if strange is not None:
        raise BadInput(f"{path}: split must be one of {', '.join(SPLITS)}, got {strange!r}")
    absent = [file for file in files if file not in sides]
    if absent:
        raise BadInput(f"{path}: {len(absent)} of {len(files)} pictures are not in the split, first {absent[0]}")
    return [sides[file] for file in files]
