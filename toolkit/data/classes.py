"""The classes of a data set: their names, which are good, and the marks of images that show several defects."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from toolkit.paths import reading

Role = Literal["good", "defect"]
NAME_LENGTH = 64  # as in the bundle
GOOD = "good"
BETWEEN = "|"  # the marks of one cell
ROLES_FILE = "labels.json"
_ROLES: dict[str, Role] = {"good": "good", "defect": "defect"}
_GOOD_NAMES = frozenset({GOOD, "ok", "normal", "no_defect"})


def read_roles(folder: Path, names: list[str]) -> list[Role]:
    """Roles by name, overridden by labels.json {"class": "good" or "defect"}.

    Raises:
        BadInput: labels.json is not such a document, or names a class that does not exist.
    """
    path = folder / ROLES_FILE
    given = read_stated_roles(path)
    for name, role in given.items():
        if name not in names:
            raise BadInput(f"{path}: no class {name!r}; the classes are {', '.join(names)}")
        if role not in _ROLES:
            raise BadInput(f"{path}: class {name!r} must be good or defect, got {role!r}")
    return [_ROLES[given.get(name, "good" if name.lower() in _GOOD_NAMES else "defect")] for name in names]


def read_stated_roles(path: Path) -> dict[str, str]:
    """What labels.json says, nothing where it is not there."""
    with reading(path):
        if not path.exists():
            return {}
        text = path.read_bytes()
    try:
        return msgspec.json.decode(text, type=dict[str, str])
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise BadInput(f'{path}: must be like {{"class": "good"}}: {str(error).lower()}') from error


def check_names(where: Path, names: Sequence[str]) -> None:
    """Refuse what no bundle can hold.

    Raises:
        BadInput: fewer than two classes, or a name that is too long or has control characters.
    """
    if len(names) < 2:
        raise BadInput(f"{where}: all images are of one class, {names[0]!r}; at least two are needed")
    for name in names:
        if any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
            raise BadInput(f"{where}: class {name!r} has a control character in its name; rename it")
        if len(name) > NAME_LENGTH:
            raise BadInput(f"{where}: class {name!r} has {len(name)} characters; at most {NAME_LENGTH}, rename it")


def read_marks(where: Path, folder: Path, cells: Sequence[str]) -> tuple[list[str], list[Role], NDArray[np.bool_]]:
    """Names and roles of the classes, and the marks (n, classes) bool, of cells such as "scratch|pit".

    An empty cell, or a good class alone, is an image without a mark. The column of the good class is False throughout;
    where no cell names one it is called "good".

    Raises:
        BadInput: a mark that is empty, stands twice or beside a good class; several good classes; no image without a
            mark.
    """
    parts_of = {cell: _parts(where, cell) for cell in dict.fromkeys(cells)}
    named = {name for parts in parts_of.values() for name in parts}
    names = sorted(named | (read_stated_roles(folder / ROLES_FILE).keys() & {GOOD}))
    roles = read_roles(folder, names)
    good = [name for name, role in zip(names, roles, strict=True) if role == "good"]
    if len(good) > 1:
        raise BadInput(f"{where}: images with several marks have one class without any, got {', '.join(good)}")
    if not good:
        names = sorted([*names, GOOD])
        roles = read_roles(folder, names)
        if roles[names.index(GOOD)] != "good":
            raise BadInput(f"{folder / ROLES_FILE}: class {GOOD!r} is that of images without a mark; it must be good")
    check_names(where, names)
    none = good[0] if good else GOOD
    place = {name: number for number, name in enumerate(names)}
    row_of = {}
    for cell, parts in parts_of.items():
        if none in parts and len(parts) > 1:
            raise BadInput(f"{where}: class {cell!r} is both good and not; one of the two is wrong")
        row_of[cell] = np.zeros(len(names), np.bool_)
        row_of[cell][[place[name] for name in parts if name != none]] = True
    marks = np.array([row_of[cell] for cell in cells])
    if marks.any(axis=1).all():
        raise BadInput(f"{where}: no image without a mark; good parts have an empty class, or {none!r}")
    return names, roles, marks


def rarest_mark(marks: NDArray[np.bool_], good: int) -> NDArray[np.int64]:
    """The class of each image that stands for it in a split: (n,) int64, its mark that fewest images have, and `good`
    where it has none.

    >>> rarest_mark(np.array([[1, 0, 1], [1, 0, 0], [0, 0, 0]], bool), 1).tolist()
    [2, 0, 1]
    """
    counts = marks.sum(axis=0).astype(np.float64)
    label = np.where(marks, counts, np.inf).argmin(axis=1)
    return np.where(marks.any(axis=1), label, good).astype(np.int64)


def _parts(where: Path, cell: str) -> list[str]:
    if not cell:
        return []
    parts = [part.strip() for part in cell.split(BETWEEN)]
    if "" in parts or len(set(parts)) < len(parts):
        raise BadInput(f"{where}: class {cell!r} has a mark that is empty or stands twice; write a{BETWEEN}b")
    return parts
