"""One look at every image of a data set: each file is read and decoded once, and what all checks need is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from device_agent.contract.reading import read_plain
from toolkit.data.decoding import attempting, digest_of, each_of, picture_in
from toolkit.data.features import describe
from toolkit.data.file_facts import file_facts
from toolkit.data.images import Dataset, Progress
from toolkit.paths import reading

THUMB = 32  # px
OF_THE_PICTURE = ("brightness", "contrast", "sharpness", "colour, red to green", "colour, yellow to blue")
_HEADER_BYTES = 1 << 18
_CELL_PX = 8
_BORDER_NOISE, _BORDER_STEP = 4, 12  # grey levels: most within a border, least from it to the picture


class _Look(NamedTuple):
    digest: bytes
    hash: int
    thumb: NDArray[np.uint8]
    facts: dict[str, Any]
    features: NDArray[np.float16] | None


@dataclass(frozen=True)
class Looks:
    """What was seen in n images. `digests` of the decoded pixels; `hashes` (n,) uint64, the perceptual hash; `thumbs`
    (n, 32, 32) uint8 grey; `facts` (n,) each, numbers with NaN or texts with "" where an image has none; `features`
    (n, features) float16, None where they were not asked for. 3 KiB an image."""

    digests: list[bytes]
    hashes: NDArray[np.uint64]
    thumbs: NDArray[np.uint8]
    facts: dict[str, NDArray[Any]]
    features: NDArray[np.float16] | None

    def only(self, rows: Sequence[int] | NDArray[np.integer]) -> Looks:
        """The images of `rows`."""
        return replace(
            self,
            digests=[self.digests[row] for row in rows],
            hashes=self.hashes[rows],
            thumbs=self.thumbs[rows],
            facts={name: values[rows] for name, values in self.facts.items()},
            features=None if self.features is None else self.features[rows],
        )


def look(dataset: Dataset, *, features: bool, progress: Progress | None = None) -> tuple[Looks, list[int], list[str]]:
    """The looks of the images that can be read, their rows in the data set, and a sentence for each that cannot."""
    # the planes are small: threads of OpenCV's own would only wait for each other
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        seen = each_of(attempting(lambda file: _look(dataset.dir / file, features)), dataset.files, progress)
    finally:
        cv2.setNumThreads(threads)
    rows = [row for row, each in enumerate(seen) if isinstance(each, _Look)]
    good = [each for each in seen if isinstance(each, _Look)]
    problems = [str(each) for each in seen if isinstance(each, BadInput)]
    return _table(good, features), rows, problems


def _table(seen: list[_Look], features: bool) -> Looks:
    names = seen[0].facts if seen else {}
    return Looks(
        digests=[each.digest for each in seen],
        hashes=np.array([each.hash for each in seen], np.uint64),
        thumbs=np.array([each.thumb for each in seen], np.uint8).reshape(-1, THUMB, THUMB),
        facts={name: np.array([each.facts[name] for each in seen]) for name in names},
        features=np.array([each.features for each in seen], np.float16) if features and seen else None,
    )


def _look(path: Path, features: bool) -> _Look:
    with reading(path):
        said = file_facts(read_plain(path, 1 << 29)[:_HEADER_BYTES])
    with picture_in(path) as picture:
        grey = np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.uint8)
        facts = {
            "file format": said.format,
            "image size": f"{picture.shape[1]} x {picture.shape[0]}",
            "JPEG quality": said.quality,
            "EXIF camera": said.camera,
            "EXIF time": said.time,
            "border": border(grey),
            **_light(picture, grey),
        }
        thumb = np.asarray(cv2.resize(grey, (THUMB, THUMB), interpolation=cv2.INTER_AREA), np.uint8)
        return _Look(digest_of(picture), perceptual_hash(grey), thumb, facts, describe(picture) if features else None)


def perceptual_hash(grey: NDArray[np.uint8]) -> int:
    """64 bits that change little when a picture is scaled, compressed or made brighter: which of the 8 x 8 lowest
    frequencies but the mean are above their median (Zauner 2010, Implementation and benchmarking of perceptual image
    hash functions).

    >>> ramp = np.tile(np.arange(0, 256, 2, dtype=np.uint8), (128, 1))
    >>> perceptual_hash(ramp) == perceptual_hash(cv2.resize(ramp, (64, 64)))
    True
    """
    small = cv2.resize(grey, (THUMB, THUMB), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(small)[:8, :8].ravel()
    low[0] = 0
    bits = low > np.median(low[1:])
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def border(grey: NDArray[np.uint8]) -> float:
    """How far a constant frame or letterbox reaches in, as a share of the side: 0 to 0.5; 0 for an even picture.

    >>> boxed = np.zeros((100, 100), np.uint8)
    >>> boxed[20:80] = np.arange(100, 200)
    >>> border(boxed)
    0.2
    """
    if min(grey.shape) <= 8:
        return 0.0
    return max(_constant(lines) for plane in (grey, grey.T) for lines in (plane, plane[::-1]))


def _constant(lines: NDArray[np.uint8]) -> float:
    """Share of the lines that have one level, when the picture that follows has another."""
    side = len(lines)
    away = np.abs(lines[: side // 2].astype(np.int16) - np.median(lines[0]).astype(np.int16))
    flat = (away <= _BORDER_NOISE).all(axis=1)
    reach = 0 if flat.all() else int(flat.argmin())
    if reach < 0.02 * side or away[reach : reach + 8].mean(axis=1).max() < _BORDER_STEP:
        return 0.0
    return round(reach / side, 3)


def _light(picture: NDArray[np.uint8], grey: NDArray[np.uint8]) -> dict[str, float]:
    """Medians and quartiles, which a defect on a small part of the picture hardly moves."""
    step = max(1, min(grey.shape) // 256)
    plain = picture[::step, ::step].astype(np.float32)
    level = grey[::step, ::step]
    low, middle, high = np.percentile(level, (25, 50, 75))
    fine = np.abs(cv2.Laplacian(grey, cv2.CV_32F, ksize=1))
    cells = max(1, grey.shape[1] // _CELL_PX), max(1, grey.shape[0] // _CELL_PX)
    values = (
        middle,
        high - low,
        np.log1p(np.median(cv2.resize(fine, cells, interpolation=cv2.INTER_AREA))),
        np.median(plain[..., 0] - plain[..., 1]),
        np.median((plain[..., 0] + plain[..., 1]) / 2 - plain[..., 2]),
    )
    return {name: float(value) for name, value in zip(OF_THE_PICTURE, values, strict=True)}
