"""A data set: labelled image files in a folder per class, or named by a manifest.csv; and their pixels.

manifest.csv has the columns file, class (or label), and may have group (or part) and split (train, val, test); other
columns are kept. Images of one group show the same part and never stand on two sides of a split; images of equal pixels
are one group, whatever the manifest says.
"""

from __future__ import annotations

import hashlib
import os
import threading
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent import preprocess
from device_agent.contract.errors import BadInput, NotFound
from device_agent.contract.manifest import InputSpec, Label
from device_agent.frames.header import picture_size
from device_agent.frames.picture import MAX_PIXELS, SUFFIXES, read_picture
from toolkit.data.listing import Listing, list_folders, list_manifest
from toolkit.paths import reading

Role = Literal["good", "defect"]
Progress = Callable[[int, int], None]  # done, total
Item = TypeVar("Item")
Result = TypeVar("Result")

MANIFEST = "manifest.csv"
_ROLES: dict[str, Role] = {"good": "good", "defect": "defect"}
NAME_LENGTH = 64  # as in the bundle
_GOOD_NAMES = frozenset({"good", "ok", "normal", "no_defect"})


@dataclass(frozen=True)
class Dataset:
    """Image files and what is known about them; all sequences but `names` and `roles` have one entry an image.

    `files` are relative to `dir`, with forward slashes; `labels` (n,) int64 index `names`; `groups` (n,) str;
    `splits` (n,) of "train", "val", "test", or None; `columns` are the other columns of the manifest. `pixels` are the
    digests of the decoded images, where these were read; `stated` are then the groups before images of equal pixels
    were joined.
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

    def __len__(self) -> int:
        return len(self.files)

    def label_list(self) -> list[Label]:
        """The classes as the bundle names them, in the order of `labels`."""
        return [Label(name, role) for name, role in zip(self.names, self.roles, strict=True)]

    def counts(self) -> NDArray[np.int64]:
        """Images of each class: (classes,) int64."""
        return np.bincount(self.labels, minlength=len(self.names))

    def sha256(self, progress: Progress | None = None) -> str:
        """Digest of every file's bytes with its name, class and stated group, in whatever order the files stand."""
        groups = self.groups if self.stated is None else self.stated
        contents = _each(lambda file: hashlib.sha256(_bytes(self.dir / file)).hexdigest(), self.files, progress)
        lines = [
            "\0".join((file, self.names[label], str(group), content))
            for file, label, group, content in zip(self.files, self.labels, groups, contents, strict=True)
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
        )


def open_dataset(path: str | Path, *, join: bool = True, progress: Progress | None = None) -> Dataset:
    """The data set in a folder, files in alphabetical order or in that of manifest.csv, classes in alphabetical order.

    Without groups in the manifest each file is a group of its own; with `join`, images of equal pixels share one
    (this decodes every image once).

    Raises:
        NotFound: no such folder.
        BadInput: no image, fewer than two classes, a manifest that does not fit, with `join` a damaged image.
    """
    folder = Path(path)
    with reading(folder):
        if not folder.exists():
            raise NotFound(f"{folder}: no such folder; draw one with: lineside data synth {folder}")
        if not folder.is_dir():
            raise BadInput(f"{folder}: is a file; a data set is a folder with one folder per class, or with {MANIFEST}")
        manifest = folder / MANIFEST
        listing = list_manifest(manifest) if manifest.exists() else list_folders(folder, SUFFIXES)
    names = sorted(set(listing.classes))
    _check_names(folder, names)
    dataset = Dataset(
        dir=folder,
        files=listing.files,
        labels=np.array([names.index(name) for name in listing.classes], np.int64),
        names=names,
        roles=_roles(folder, names),
        groups=_groups(listing),
        splits=None if listing.splits is None else np.array(listing.splits),
        columns=listing.columns,
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
        with _picture(dataset.dir / dataset.files[rows[place]]) as picture:
            out[place] = preprocess.fit(picture, spec)

    _all_good(dataset, _each(_attempt(fit), range(len(rows)), progress))
    return out


def pixel_digests(dataset: Dataset, progress: Progress | None = None) -> list[bytes | BadInput]:
    """The digest of each image's decoded pixels, equal for equal pictures in any format; for one that cannot be read,
    what is wrong with it."""
    return _each(_attempt(lambda file: _pixel_digest(dataset.dir / file)), dataset.files, progress)


def joined(dataset: Dataset, pixels: list[bytes]) -> Dataset:
    """The data set in which groups that have an image of equal `pixels` (n,) are one, named after the first."""
    parent = {str(group): str(group) for group in dataset.groups}

    def first_of(group: str) -> str:
        while parent[group] != group:
            group = parent[group]
        return group

    seen: dict[bytes, str] = {}
    for group, digest in zip(dataset.groups, pixels, strict=True):
        parent[first_of(str(group))] = first_of(seen.setdefault(digest, str(group)))
    groups = np.array([first_of(str(group)) for group in dataset.groups])
    return replace(dataset, groups=groups, stated=dataset.groups, pixels=pixels)


def _check_names(folder: Path, names: list[str]) -> None:
    if len(names) < 2:
        raise BadInput(f"{folder}: all images are of one class, {names[0]!r}; at least two are needed")
    for name in names:
        if any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
            raise BadInput(f"{folder}: class {name!r} has a control character in its name; rename it")
        if len(name) > NAME_LENGTH:
            raise BadInput(f"{folder}: class {name!r} has {len(name)} characters; at most {NAME_LENGTH}, rename it")


def _roles(folder: Path, names: list[str]) -> list[Role]:
    """Roles by name, overridden by labels.json {"class": "good" or "defect"}."""
    path = folder / "labels.json"
    given: dict[str, str] = {}
    with reading(path):
        there = path.exists()
    if there:
        try:
            given = msgspec.json.decode(_bytes(path), type=dict[str, str])
        except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
            raise BadInput(f'{path}: must be like {{"class": "good"}}: {str(error).lower()}') from error
    for name, role in given.items():
        if name not in names:
            raise BadInput(f"{path}: no class {name!r}; the classes are {', '.join(names)}")
        if role not in _ROLES:
            raise BadInput(f"{path}: class {name!r} must be good or defect, got {role!r}")
    return [_ROLES[given.get(name, "good" if name.lower() in _GOOD_NAMES else "defect")] for name in names]


def _groups(listing: Listing) -> NDArray[np.str_]:
    own = [file.rpartition(".")[0] or file for file in listing.files]
    return np.array([group or stem for group, stem in zip(listing.groups or own, own, strict=True)])


class _Room:
    """Pixels that may be decoded at one time by all threads together: one of the largest pictures, or many small."""

    def __init__(self, pixels: int) -> None:
        self._free = self._all = pixels
        self._changed = threading.Condition()

    @contextmanager
    def take(self, pixels: int) -> Iterator[None]:
        """Wait until `pixels` are free, and hold them in the block; more than there are is all of them."""
        pixels = min(pixels, self._all)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= pixels)
            self._free -= pixels
        try:
            yield
        finally:
            with self._changed:
                self._free += pixels
                self._changed.notify_all()


_ROOM = _Room(MAX_PIXELS)


@contextmanager
def _picture(path: Path) -> Iterator[NDArray[np.uint8]]:
    """The pixels in a file, decoded when there is room for them."""
    height, width = picture_size(_bytes(path)) or (1, 1)
    with _ROOM.take(height * width):
        yield read_picture(path)


def _pixel_digest(path: Path) -> bytes:
    with _picture(path) as picture:
        digest = hashlib.sha256(str(picture.shape).encode())
        digest.update(np.ascontiguousarray(picture).data)
        return digest.digest()


def _bytes(path: Path) -> bytes:
    with reading(path):
        return path.read_bytes()


def _each(work: Callable[[Item], Result], items: Sequence[Item], progress: Progress | None) -> list[Result]:
    """`work` of every item, in order, on all cores: OpenCV and hashlib let other threads run."""
    results = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, result in enumerate(pool.map(work, items), 1):
            results.append(result)
            if progress is not None:
                progress(done, len(items))
    return results


def _attempt(work: Callable[[Item], Result]) -> Callable[[Item], Result | BadInput]:
    """`work` that gives back a BadInput in place of raising it, so that all of them can be counted."""

    def attempt(item: Item) -> Result | BadInput:
        try:
            return work(item)
        except BadInput as error:
            return error

    return attempt


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
