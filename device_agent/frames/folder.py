"""A folder of images as a camera: a folder per class, a manifest.csv, or just images."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from device_agent.contract.errors import BadInput, NotFound
from device_agent.frames import Frame, Image, SourceEnded, read_options
from device_agent.frames.line import Lens, Line, brighten, other_product
from device_agent.frames.picture import SUFFIXES, read_picture

GOOD_NAMES = frozenset({"good", "ok", "normal", "no_defect"})


class FolderLine(Line, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A Line whose parts are the images of a folder, of one `split` of its manifest.csv if that is named; ends after
    one pass with `once`."""

    split: str | None = None
    once: bool = False


class Item(NamedTuple):
    """One image file and its class, "" where nothing tells it."""

    path: Path
    label: str


class Folder:
    """Images in an order shuffled by the seed, again and again; a file that is no image is passed over.

    With `good`, each part is drawn anew: a good one with that probability, else one of the others.
    """

    live = False

    @staticmethod
    def check(target: str, options: dict[str, str]) -> FolderLine:
        """The options; raises BadInput."""
        where = f"source folder:{target}"
        line = read_options(options, FolderLine, where=where)
        if line.once and line.good is not None:
            raise BadInput(f"{where}: good= draws without end, so it excludes once=1")
        return line

    def __init__(self, target: str, options: dict[str, str], clock: Callable[[], int]) -> None:
        where = f"source folder:{target}"
        self.line = self.check(target, options)
        self.fps = self.line.fps
        items = list_images(Path(target), split=self.line.split)
        self._rng = np.random.default_rng(self.line.seed)
        self._order = _pass(items, self._rng) if self.line.once else self._endless(items, where)
        self._clock, self._started_ns = clock, clock()
        self._lens = Lens(self.line.seed)
        self._stamp = 0
        self._image: Image | None = None
        self._failed, self._most_failures = 0, len(items)

    def _endless(self, items: list[Item], where: str) -> Iterator[Item]:
        if self.line.good is None:
            return _repeat(items, self._rng)
        good = [item for item in items if item.label.lower() in GOOD_NAMES]
        others = [item for item in items if item.label.lower() not in GOOD_NAMES]
        if not good or not others:
            raise BadInput(f"{where}: good= needs a class named good, ok, normal or no_defect, and another one")
        return _mixed(good, others, self.line.good, self._rng)

    def read(self) -> Frame:
        """The next frame; raises SourceEnded after the pass that `once` allows."""
        if self._image is None or self._stamp % self.line.hold == 0:
            self._image = self._decode()
        now_ns = self._clock()
        elapsed_s = (now_ns - self._started_ns) / 1e9
        image = other_product(self._image) if self.line.changed_over(elapsed_s) else self._image
        image = self._lens.soil(brighten(image, self.line.light_now(elapsed_s)), self.line.dirt_now(elapsed_s))
        frame = Frame(image, self._stamp, now_ns, self._stamp // self.line.hold)
        self._stamp += 1
        return frame

    def _decode(self) -> Image:
        while True:
            item = next(self._order, None)
            if item is None:
                if not self._stamp:
                    raise BadInput(f"source folder: none of the {self._failed} files can be decoded")
                raise SourceEnded
            try:
                image = read_picture(item.path)
            except BadInput as error:
                self._failed += 1
                if self._failed >= self._most_failures:
                    raise BadInput(
                        f"source folder: no image left that can be decoded; the last one: {error}"
                    ) from error
                continue
            self._failed = 0
            return image

    def close(self) -> None:
        """Nothing is held."""


def list_images(folder: Path, *, split: str | None = None) -> list[Item]:
    """The images of a folder, sorted by path.

    Raises:
        NotFound: no such folder.
        BadInput: no images, a manifest that cannot be read, or a split that is not in it.
    """
    try:
        if not folder.is_dir():
            raise NotFound(f"source folder: {folder} is no folder")
        manifest = folder / "manifest.csv"
        items = _listed(manifest, split) if manifest.is_file() else _found(folder, split)
    except NotFound:
        raise
    except OSError as error:
        raise NotFound(f"source folder: {folder} cannot be read: {(error.strerror or str(error)).lower()}") from error
    if not items:
        raise BadInput(f"source folder: {folder} holds no images" + (f" of split {split!r}" if split else ""))
    return sorted(items)


def _listed(manifest: Path, split: str | None) -> list[Item]:
    try:
        with manifest.open(newline="", encoding="utf-8-sig") as file:
            names, *table = [[cell.strip() for cell in row] for row in csv.reader(file) if row] or [[]]
    except (csv.Error, UnicodeDecodeError) as error:
        raise BadInput(f"{manifest}: is no CSV in UTF-8: {str(error).lower()}") from error
    label = next((name for name in ("class", "label") if name in names), None)
    if "file" not in names or (split is not None and "split" not in names):
        raise BadInput(f"{manifest}: needs a column {'file' if 'file' not in names else 'split'!r}")
    rows = [dict(zip(names, row, strict=False)) for row in table]
    return [
        Item(manifest.parent / row["file"], row.get(label, "") if label else "")
        for row in rows
        if row.get("file") and (split is None or row.get("split") == split)
    ]


def _found(folder: Path, split: str | None) -> list[Item]:
    if split is not None:
        raise BadInput(f"source folder: split={split} needs {folder / 'manifest.csv'}")
    files = [path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()]
    return [Item(path, path.relative_to(folder).parts[0] if path.parent != folder else "") for path in files]


def _pass(items: list[Item], rng: np.random.Generator) -> Iterator[Item]:
    return (items[k] for k in rng.permutation(len(items)))


def _repeat(items: list[Item], rng: np.random.Generator) -> Iterator[Item]:
    while True:
        yield from _pass(items, rng)


def _mixed(good: list[Item], others: list[Item], share: float, rng: np.random.Generator) -> Iterator[Item]:
    fine, flawed = _repeat(good, rng), _repeat(others, rng)
    while True:
        yield next(fine if rng.random() < share else flawed)
