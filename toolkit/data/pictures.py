"""Images as the model sees them, in memory while they are few, else in one flat file that is read row by row."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.manifest import InputSpec
from toolkit.data.images import Dataset, Progress, load
from toolkit.paths import writing

IN_MEMORY_BYTES = 256 * 2**20
AT_ONCE = 512  # images that are decoded before they are written
Rows = NDArray[np.integer] | slice


class Pictures:
    """Images (n, h, w, channels) uint8 that are indexed by an array of rows or a slice, and then lie in memory.

    >>> Pictures((2, 1, 1, 1), np.array([[[[7]]], [[[9]]]], np.uint8))[np.array([1, 0, 1])].ravel().tolist()
    [9, 7, 9]
    """

    def __init__(self, shape: tuple[int, int, int, int], source: NDArray[np.uint8] | IO[bytes]) -> None:
        self.shape = shape
        self._source = source

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Rows) -> NDArray[np.uint8]:
        if isinstance(self._source, np.ndarray):
            return self._source[rows]
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            if step == 1:
                return self._read(self._source.fileno(), start, max(0, stop - start))
            rows = np.arange(start, stop, step)
        rows = np.asarray(rows)
        out = np.empty((len(rows), *self.shape[1:]), np.uint8)
        for place, row in enumerate(rows.tolist()):
            if not -len(self) <= row < len(self):
                raise IndexError(f"row {row} of {len(self)} images")
            out[place] = self._read(self._source.fileno(), row % len(self), 1)[0]
        return out

    def close(self) -> None:
        """Give the file's room on the disk back."""
        if not isinstance(self._source, np.ndarray):
            self._source.close()

    def __enter__(self) -> Pictures:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _read(self, handle: int, first: int, count: int) -> NDArray[np.uint8]:
        """`count` images from row `first` on, by pread: a mapped file would count as memory of the process."""
        out = np.empty((count, *self.shape[1:]), np.uint8)
        room, each = out.reshape(-1).data, int(np.prod(self.shape[1:]))
        done = 0
        while done < len(room):
            got = os.preadv(handle, [room[done:]], first * each + done)
            if not got:
                raise OSError(f"the file of images ends at byte {first * each + done}")
            done += got
        return out


def open_pictures(
    dataset: Dataset,
    spec: InputSpec,
    rows: Sequence[int] | NDArray[np.integer],
    *,
    folder: Path,
    progress: Progress | None = None,
    in_memory_bytes: int = IN_MEMORY_BYTES,
) -> Pictures:
    """The images of `rows` in their order, decoded and fitted once. Over `in_memory_bytes` they are kept in a file in
    `folder` that has no name: it is gone with the process, however that ends.

    Raises:
        BadInput: images that are damaged, too large or unreadable.
        NotWritable: the disk is full, read-only or forbids it.
    """
    rows = np.asarray(rows, np.int64)
    shape = (len(rows), spec.height, spec.width, spec.channels)
    if np.prod(shape) <= in_memory_bytes:
        return Pictures(shape, load(dataset, spec, rows, progress))
    with writing(folder):
        file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115
    try:
        for at in range(0, len(rows), AT_ONCE):
            images = load(dataset, spec, rows[at : at + AT_ONCE])
            with writing(folder):
                _write(file.fileno(), images)
            if progress is not None:
                progress(min(at + AT_ONCE, len(rows)), len(rows))
    except BaseException:
        file.close()
        raise
    return Pictures(shape, file)


def _write(handle: int, images: NDArray[np.uint8]) -> None:
    rest = images.reshape(-1).data
    while rest:
        rest = rest[os.write(handle, rest) :]
