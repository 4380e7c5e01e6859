"""A data set: labelled image files in a folder per class, or named by a manifest; and their pixels.

A manifest, csv or parquet, has the columns file, class (or label), and may have group (or part) and split (train, val,
test); other columns are kept. Images of one group show the same part and never stand on two sides of a split; images of
equal pixels are one group, whatever the manifest says. A class cell "scratch|pit" names two marks of one image; where
one cell does, an empty one is an image without any.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from device_agent import preprocess
from device_agent.contract.errors import BadInput, NotFound
from device_agent.contract.manifest import InputSpec, Label
from device_agent.frames.picture import SUFFIXES
from toolkit.data.classes import BETWEEN, NAME_LENGTH, Role, check_names, rarest_mark, read_marks, read_roles
from toolkit.data.decoding import Progress, attempting, bytes_of, digest_of, each_of, picture_in
from toolkit.data.listing import MANIFEST, MANIFESTS, Listing, find_manifest, list_folders, list_manifest
from toolkit.paths import reading

__all__ = ["MANIFEST", "NAME_LENGTH", "Dataset", "Progress", "Role", "joined", "load", "open_dataset", "pixel_digests"]

Result = TypeVar("Result")


@dataclass(frozen=True)
class Dataset:
    """Image files and what is known about them; all sequences but `names` and `roles` have one entry an image.

    `files` are relative to `dir`, with forward slashes; `labels` (n,) int64 index `names`; `groups` (n,) str;
    `splits` (n,) of "train", "val", "test", or None; `columns` are the other columns of the manifest. `pixels` are the
    digests of the decoded images, where these were read; `stated` are then the groups before images of equal pixels
    were joined. Where images have several marks, `marks` is (n, classes) bool, False throughout for the one good class,
    and `labels` the rarest mark of each image. `manifest` is the table that was opened, if there was one.
    """

    dir: Path
    files: list[str]
    labels: NDArray[np.int64]
    names: list[str]
    roles: list[Role]
    groups: NDArray[np.str_]
    splits: NDArray[np.str_] | None = None
    columns: dict[str, list[str]] = field(default_factory=dict)
    pixels: list[bytes] | None = None
    stated: NDArray[np.str_] | None = None
    marks: NDArray[np.bool_] | None = None
    manifest: Path | None = None

    @property
    def source(self) -> Path:
        """What `open_dataset` opens again: the folder, or a manifest that is not the folder's only one."""
        own = [self.dir / name for name in MANIFESTS if (self.dir / name).exists()]
        return self.dir if self.manifest is None or own == [self.manifest] else self.manifest

    def __len__(self) -> int:
        return len(self.files)

    def label_list(self) -> list[Label]:
        """The classes as the bundle names them, in the order of `labels`."""
        return [Label(name, role) for name, role in zip(self.names, self.roles, strict=True)]

    def members(self) -> NDArray[np.bool_]:
        """Which classes each image is of: (n, classes) bool, True for the good class where it has no mark."""
        out: NDArray[np.bool_] = self.labels[:, None] == np.arange(len(self.names))
        return out if self.marks is None else out | self.marks

    def counts(self) -> NDArray[np.int64]:
        """Images of each class, an image of several marks in each of them: (classes,) int64."""
        out: NDArray[np.int64] = self.members().sum(axis=0)
        return out

    def cells(self) -> list[str]:
        """The class of each image as a manifest says it, "scratch|pit" for one of two marks."""
        if self.marks is None:
            return [self.names[label] for label in self.labels]
        members = self.members()
        kinds, kind = np.unique(members, axis=0, return_inverse=True)
        texts = [BETWEEN.join(name for name, has in zip(self.names, row, strict=True) if has) for row in kinds]
        return [texts[number] for number in kind.reshape(-1)]

    def digests(self, progress: Progress | None = None) -> list[str]:
        """The SHA-256 of each file's bytes, in hexadecimal.

        Raises:
            BadInput: a file that cannot be read.
        """
        return each_of(lambda file: hashlib.sha256(bytes_of(self.dir / file)).hexdigest(), self.files, progress)

    def sha256(self, progress: Progress | None = None) -> str:
        """Digest of every file's bytes with its name, class and stated group, in whatever order the files stand."""
        groups = self.groups if self.stated is None else self.stated
        lines = [
            "\0".join((file, cell, str(group), content))
            for file, cell, group, content in zip(self.files, self.cells(), groups, self.digests(progress), strict=True)
        ]
        return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()

    def only(self, rows: Sequence[int]) -> Dataset:
        """The images of `rows`, with all classes."""
        return replace(
            self,
            files=[self.files[row] for row in rows],
            labels=self.labels[rows],
            groups=self.groups[rows],
            splits=None if self.splits is None else self.splits[rows],
            columns={name: [values[row] for row in rows] for name, values in self.columns.items()},
            pixels=None if self.pixels is None else [self.pixels[row] for row in rows],
            stated=None if self.stated is None else self.stated[rows],
            marks=None if self.marks is None else self.marks[rows],
        )


def open_dataset(path: str | Path, *, join: bool = True, progress: Progress | None = None) -> Dataset:
    """The data set in a folder, or of a manifest that is named: files in alphabetical order or in that of the manifest,
    classes in alphabetical order.

    Without groups in the manifest each file is a group of its own; with `join`, images of equal pixels share one
    (this decodes every image once).

    Raises:
        NotFound: no such folder.
        BadInput: no image, fewer than two classes, a manifest that does not fit, with `join` a damaged image.
    """
    given = Path(path)
    with reading(given):
        if not given.exists():
            raise NotFound(f"{given}: no such folder; draw one with: lineside data synth {given}")
        manifest = find_manifest(given)
        folder = given.parent if given.is_file() else given
        listing = list_manifest(manifest) if manifest else list_folders(folder, SUFFIXES)
    names, roles, labels, marks = _classes(given, folder, listing)
    dataset = Dataset(
        dir=folder,
        files=listing.files,
        labels=labels,
        names=names,
        roles=roles,
        groups=_groups(listing),
        splits=None if listing.splits is None else np.array(listing.splits),
        columns=listing.columns,
        marks=marks,
        manifest=manifest,
    )
    return joined(dataset, _all_good(dataset, pixel_digests(dataset, progress))) if join else dataset


def load(
    dataset: Dataset, spec: InputSpec, rows: Sequence[int] | NDArray[np.integer], progress: Progress | None = None
) -> NDArray[np.uint8]:
    """The images of `rows` as the device sees them: (n, height, width, channels) uint8, in the order of `rows`.

    Raises:
        BadInput: images that are damaged, too large or unreadable: the first by name, and how many.
    """
    out = np.empty((len(rows), spec.height, spec.width, spec.channels), np.uint8)

    def fit(place: int) -> None:
        with picture_in(dataset.dir / dataset.files[rows[place]]) as picture:
            out[place] = preprocess.fit(picture, spec)

    _all_good(dataset, each_of(attempting(fit), range(len(rows)), progress))
    return out


def pixel_digests(dataset: Dataset, progress: Progress | None = None) -> list[bytes | BadInput]:
    """The digest of each image's decoded pixels, equal for equal pictures in any format; for one that cannot be read,
    what is wrong with it."""

    def digest(file: str) -> bytes:
        with picture_in(dataset.dir / file) as picture:
            return digest_of(picture)

    return each_of(attempting(digest), dataset.files, progress)


def joined(dataset: Dataset, pixels: list[bytes]) -> Dataset:
    """The data set in which groups that have an image of equal `pixels` (n,) are one, named after the first."""
    parent = {str(group): str(group) for group in dataset.groups}

    def first_of(group: str) -> str:
        while parent[group] != group:
            parent[group] = group = parent[parent[group]]
        return group

    seen: dict[bytes, str] = {}
    for group, digest in zip(dataset.groups, pixels, strict=True):
        parent[first_of(str(group))] = first_of(seen.setdefault(digest, str(group)))
    groups = np.array([first_of(str(group)) for group in dataset.groups])
    return replace(dataset, groups=groups, stated=dataset.groups, pixels=pixels)


def _classes(
    given: Path, folder: Path, listing: Listing
) -> tuple[list[str], list[Role], NDArray[np.int64], NDArray[np.bool_] | None]:
    """Names, roles, labels (n,) and marks (n, classes) or None."""
    if listing.several:
        names, roles, marks = read_marks(given, folder, listing.classes)
        return names, roles, rarest_mark(marks, roles.index("good")), marks
    names = sorted(set(listing.classes))
    check_names(given, names)
    place = {name: label for label, name in enumerate(names)}
    labels = np.fromiter((place[name] for name in listing.classes), np.int64, len(listing.classes))
    return names, read_roles(folder, names), labels, None


def _groups(listing: Listing) -> NDArray[np.str_]:
    own = [file.rpartition(".")[0] or file for file in listing.files]
    return np.array([group or stem for group, stem in zip(listing.groups or own, own, strict=True)])


def _all_good(dataset: Dataset, results: Sequence[Result | BadInput]) -> list[Result]:
    """The results, or one error for all that failed."""
    problems = [result for result in results if isinstance(result, BadInput)]
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise BadInput(
            f"{problems[0]} ({len(problems)} of {len(results)} images cannot be read; "
            f"lineside data check {dataset.dir} lists them)"
        )
    return [result for result in results if not isinstance(result, BadInput)]
