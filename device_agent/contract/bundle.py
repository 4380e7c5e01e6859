"""The bundle: one file with everything that a device needs for a model. The same inputs give the same bytes.

A zip without compression (so that no version of zlib shows), names in order, fixed times and modes. Its comment is the
sha256 of every byte before the comment: damage is found before any parser sees a byte. After that, each file's own
sha256 from the manifest is checked before the file is used.
"""

from __future__ import annotations

import hashlib
import io
import stat
import tokenize
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput, NotFound, TrustFailed
from device_agent.contract.files import write_whole
from device_agent.contract.manifest import BundleManifest, FileEntry, read_manifest, write_manifest
from device_agent.contract.reading import read_plain

MANIFEST = "manifest.json"
MAX_BUNDLE_BYTES = 512 * 1024**2
MAX_MANIFEST_BYTES = 16 * 1024**2
_SEAL = b"sha256:"
_SEAL_BYTES = len(_SEAL) + 64


class Bundle(NamedTuple):
    """A bundle that was verified: its manifest, golden images (n, height, width, channels) uint8, the content of every
    file, manifest.json included, and the sha256 of the whole in hex."""

    manifest: BundleManifest
    golden: NDArray[np.uint8]
    files: dict[str, bytes]
    sha256: str


def entry(name: str, content: bytes) -> FileEntry:
    """What the manifest says of one file.

    >>> entry("a.txt", b"a").size
    1
    """
    return FileEntry(name, len(content), hashlib.sha256(content).hexdigest())


def write_bundle(path: Path, manifest: BundleManifest, files: Mapping[str, bytes]) -> str:
    """Write a bundle wholly or not at all, and read it back; the sha256 of the file, in hex.

    Raises:
        BadInput: the files are not exactly those that the manifest names, or the manifest contradicts itself.
        NotWritable: the disk is full or read-only.
    """
    for listed in manifest.files():
        if listed.name not in files or entry(listed.name, files[listed.name]) != listed:
            raise BadInput(f"{path.name}: {listed.name} is not the file that the manifest describes")
    surplus = sorted(set(files) - {listed.name for listed in manifest.files()})
    if surplus:
        raise BadInput(f"{path.name}: {surplus[0]} is not named in the manifest")
    content = _seal({MANIFEST: write_manifest(manifest), **files})
    try:
        verified = _verified(content, str(path))
    except TrustFailed as error:
        raise BadInput(str(error)) from error
    write_whole(path, content)
    return verified.sha256


def read_bundle(path: Path) -> Bundle:
    """The bundle at `path`, with every digest verified.

    Raises:
        NotFound: no such file, no plain file, or one over 512 MiB.
        TrustFailed: damaged, not a bundle, or with anything in it that its manifest does not name.
        UnknownSchema: its manifest has a later major schema.
        BadInput: the manifest is none, or contradicts itself.
    """
    try:
        content = read_plain(path, MAX_BUNDLE_BYTES)
    except FileNotFoundError:
        raise NotFound(f"{path}: no such file; `lineside pack RUN --for PROFILE` makes a bundle") from None
    except OSError as error:
        raise NotFound(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from error
    return _verified(content, str(path))


def _seal(files: Mapping[str, bytes]) -> bytes:
    """The zip of the files with its seal: a comment that is the digest of all before the comment."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.create_system, info.create_version, info.extract_version = 3, 20, 20
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(info, files[name])
        archive.comment = bytes(_SEAL_BYTES)
    content = buffer.getvalue()[:-_SEAL_BYTES]
    return content + _SEAL + hashlib.sha256(content).hexdigest().encode()


def _verified(content: bytes, where: str) -> Bundle:
    body, seal = content[:-_SEAL_BYTES], content[-_SEAL_BYTES:]
    if seal != _SEAL + hashlib.sha256(body).hexdigest().encode():
        raise TrustFailed(f"{where}: damaged, or not a bundle: the digest at its end does not fit its content")
    files = _entries(content, where)
    if len(files.get(MANIFEST, b"")) > MAX_MANIFEST_BYTES:
        raise TrustFailed(f"{where}: {MANIFEST} is over {MAX_MANIFEST_BYTES // 1024**2} MiB")
    manifest = read_manifest(files.get(MANIFEST, b""), where=f"{where}: {MANIFEST}")
    listed = {one.name: one for one in manifest.files()}
    if len(listed) != len(manifest.files()) or MANIFEST in listed:
        raise TrustFailed(f"{where}: the manifest names a file twice")
    for name in sorted(set(listed) ^ (set(files) - {MANIFEST})):
        raise TrustFailed(f"{where}: {name} is {'missing' if name in listed else 'not named in the manifest'}")
    for name in listed:
        if entry(name, files[name]) != listed[name]:
            raise TrustFailed(f"{where}: {name} is not what the manifest says: its size or sha256 differs")
    golden = _golden(files[manifest.golden_images.name], manifest, where)
    return Bundle(manifest, golden, files, hashlib.sha256(content).hexdigest())


def _entries(content: bytes, where: str) -> dict[str, bytes]:
    """Every entry of the zip by name, with nothing accepted that `_seal` does not write."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            infos = archive.infolist()
            for info in infos:
                plain = info.compress_type == zipfile.ZIP_STORED and info.file_size == info.compress_size
                if not plain or info.flag_bits or not stat.S_ISREG(info.external_attr >> 16):
                    raise TrustFailed(f"{where}: {info.filename!r} is compressed, encrypted or not a plain file")
            names = [info.filename for info in infos]
            if len(set(names)) != len(names) or sum(info.file_size for info in infos) > len(content):
                raise TrustFailed(f"{where}: entries that overlap or have the same name")
            return {info.filename: archive.read(info) for info in infos}
    except (zipfile.BadZipFile, EOFError, NotImplementedError, UnicodeDecodeError) as error:
        raise TrustFailed(f"{where}: not a bundle: {str(error).lower()}") from error


def _golden(content: bytes, manifest: BundleManifest, where: str) -> NDArray[np.uint8]:
    """The golden images; their header is checked before memory is taken for them."""
    handle = io.BytesIO(content)
    name = manifest.golden_images.name
    try:
        if np.lib.format.read_magic(handle) != (1, 0):
            raise ValueError("not version 1.0 of the npy format")
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(handle)
    except (ValueError, SyntaxError, tokenize.TokenError) as error:
        raise BadInput(f"{where}: {name}: {str(error).lower()}") from error
    body = content[handle.tell() :]
    if dtype != np.uint8 or fortran_order or len(shape) != 4 or int(np.prod(shape, dtype=object)) != len(body):
        raise BadInput(f"{where}: {name} must be uint8 (n, height, width, channels), got {dtype} {shape}")
    for artifact in manifest.artifacts:
        spec = artifact.input
        wanted = (len(artifact.golden.logits), spec.height, spec.width, spec.channels)
        if shape != wanted:
            raise BadInput(f"{where}: {name} has shape {shape}, {artifact.files[0].name} needs {wanted}")
    return np.frombuffer(body, np.uint8).reshape(shape)
