"""An .npz or .npy file read without trust: sizes are known before anything is unpacked, and no object is unpickled."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from toolkit.data.tables import check_plain
from toolkit.paths import reading

GIB = 1024**3
_BATCH_BYTES = 32 * 1024**2
_MOST_ASIDE = GIB // 4  # labels, names and columns
_MOST_FORTRAN = 2 * GIB
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


class Header(NamedTuple):
    """What an array says of itself; `start` is the byte at which its values begin."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    start: int

    @property
    def size(self) -> int:
        """Bytes of all values, unpacked."""
        return prod(self.shape) * self.dtype.itemsize


class ArrayFile:
    """The arrays of a file by name; that of an .npy file is called "images".

    Raises:
        BadInput: unreadable, neither of the two, damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        check_plain(path)
        with reading(path), path.open("rb") as file:
            self._zipped = file.read(4) == b"PK\3\4"
        with self._damage():
            self.headers = {name: self._header(name) for name in self._names()}

    def header(self, name: str) -> Header:
        """Shape and type of an array.

        Raises:
            BadInput: no such array, or one that only a program can unpack.
        """
        if name not in self.headers:
            has = ", ".join(f"{each} {found.dtype} {found.shape}" for each, found in self.headers.items())
            raise BadInput(f"{self.path}: no array {name!r}; it has {has or 'none'}")
        header = self.headers[name]
        if header.dtype.hasobject:
            raise BadInput(
                f"{self.path}: {name} holds pickled Python objects, which can run any program when they are loaded, so "
                "they never are; save it as a plain array, such as names.astype(str)"
            )
        if header.dtype.names is not None or min(header.shape, default=0) < 0:
            raise BadInput(f"{self.path}: {name} is {header.dtype} of shape {header.shape}, which is no plain array")
        return header

    def read(self, name: str) -> NDArray[Any]:
        """A whole array of at most 256 MiB: labels, names and what else there is beside the images.

        Raises:
            BadInput: no such array, too large, damaged.
        """
        header = self.header(name)
        self._check_size(name, header, _MOST_ASIDE, "")
        with self._values(name, header) as file:
            values = np.frombuffer(self._take(file, header.size), header.dtype)
            return values.reshape(header.shape, order="F" if header.fortran else "C")

    def batches(self, name: str, limit_gib: float) -> Iterator[NDArray[Any]]:
        """The array in parts along its first axis, about 32 MiB each.

        Raises:
            BadInput: no such array, over `limit_gib` when unpacked, damaged.
        """
        header = self.header(name)
        hint = f"; --limit-gib {-(-header.size // GIB)} allows it, if you trust the file"
        self._check_size(name, header, limit_gib * GIB, hint)
        if header.fortran and header.dtype.itemsize:
            hint = "; in Fortran order it is read as a whole: save it with np.ascontiguousarray"
            self._check_size(name, header, _MOST_FORTRAN, hint)
        count, shape = header.shape[0], header.shape[1:]
        bytes_each = prod(shape) * header.dtype.itemsize
        at_once = count if header.fortran else max(1, _BATCH_BYTES // max(1, bytes_each))
        with self._values(name, header) as file:
            for start in range(0, count, at_once):
                some = min(at_once, count - start)
                values = np.frombuffer(self._take(file, some * bytes_each), header.dtype)
                yield values.reshape((some, *shape), order="F" if header.fortran else "C")

    def _check_size(self, name: str, header: Header, most: float, hint: str) -> None:
        if not header.size <= most:
            raise BadInput(
                f"{self.path}: {name} is {header.dtype} of shape {header.shape} and unpacks into "
                f"{header.size / GIB:.1f} GiB, over the limit of {most / GIB:g} GiB{hint}"
            )

    def _names(self) -> list[str]:
        if not self._zipped:
            return ["images"]
        with zipfile.ZipFile(self.path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
        if len(set(names)) < len(names):
            raise BadInput(f"{self.path}: holds two arrays of one name, and which is meant is not known")
        return names

    def _header(self, name: str) -> Header:
        with self._open(name) as (file, size):
            version = np.lib.format.read_magic(file)
            if version not in _HEADERS:
                raise BadInput(f"{self.path}: {name} is no plain array (format {version[0]}.{version[1]})")
            shape, fortran, dtype = _HEADERS[version](file)
            header = Header(tuple(shape), dtype, fortran, file.tell())
        if not dtype.hasobject and size != header.start + header.size:
            raise BadInput(
                f"{self.path}: {name} says {dtype} of shape {shape}, {header.size} bytes, and has "
                f"{size - header.start}; the file is damaged"
            )
        return header

    @contextmanager
    def _values(self, name: str, header: Header) -> Iterator[IO[bytes]]:
        with self._damage(), self._open(name) as (file, _):
            file.read(header.start)
            yield file

    @contextmanager
    def _open(self, name: str) -> Iterator[tuple[IO[bytes], int]]:
        """The array's bytes, header first, and how many they are."""
        if self._zipped:
            with zipfile.ZipFile(self.path) as archive:
                info = archive.getinfo(f"{name}.npy")
                with archive.open(info) as file:
                    yield file, info.file_size
        else:
            with self.path.open("rb") as file:
                yield file, self.path.stat().st_size

    def _take(self, file: IO[bytes], size: int) -> bytes:
        content = file.read(size)
        if len(content) < size:
            raise BadInput(f"{self.path}: ends before its last value; the file is damaged")
        return content

    @contextmanager
    def _damage(self) -> Iterator[None]:
        try:
            with reading(self.path):
                yield
        except BadInput:
            raise
        except (ValueError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
            reason = (str(error).splitlines() or ["damaged"])[0].lower()
            raise BadInput(f"{self.path}: cannot be read as an .npz or .npy file: {reason}") from error
