"""Many picture files decoded on all cores, with a bound on the pixels that are in memory at one time."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from device_agent.frames.header import picture_size
from device_agent.frames.picture import MAX_PIXELS, read_picture
from toolkit.paths import reading

Progress = Callable[[int, int], None]  # done, total
Item = TypeVar("Item")
Result = TypeVar("Result")

_AT_ONCE = 4096  # items that wait for a thread: a waiting one costs a kilobyte


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
def picture_in(path: Path) -> Iterator[NDArray[np.uint8]]:
    """The pixels in a file, (h, w, 3) RGB, decoded when there is room for them; BadInput where they cannot be."""
    height, width = picture_size(bytes_of(path)) or (1, 1)
    with _ROOM.take(height * width):
        yield read_picture(path)


def read_grey(path: Path) -> NDArray[np.uint8]:
    """The picture in a file as (h, w) grey.

    Raises:
        BadInput: a damaged, too large or unreadable file.
    """
    with picture_in(path) as picture:
        return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.uint8)


def digest_of(picture: NDArray[np.uint8]) -> bytes:
    """The digest of decoded pixels, equal for equal pictures in any format."""
    digest = hashlib.sha256(str(picture.shape).encode())
    digest.update(np.ascontiguousarray(picture).data)
    return digest.digest()


def bytes_of(path: Path) -> bytes:
    """The bytes of a file; BadInput where it cannot be read."""
    with reading(path):
        return path.read_bytes()


def each_of(work: Callable[[Item], Result], items: Sequence[Item], progress: Progress | None) -> list[Result]:
    """`work` of every item, in order, on all cores: OpenCV and hashlib let other threads run."""
    results: list[Result] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(items), _AT_ONCE):
            for result in pool.map(work, items[start : start + _AT_ONCE]):
                results.append(result)
                if progress is not None:
                    progress(len(results), len(items))
    return results


def attempting(work: Callable[[Item], Result]) -> Callable[[Item], Result | BadInput]:
    """`work` that gives back a BadInput in place of raising it, so that all of them can be counted."""

    def attempt(item: Item) -> Result | BadInput:
        try:
            return work(item)
        except BadInput as error:
            return error

    return attempt
