"""A bundle's files on the device's disk."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from device_agent.contract.bundle import Bundle
from device_agent.contract.files import replacing, write_whole

_LEFT = re.compile(r"[0-9a-f]{16}|\.[0-9a-f]{16}\..*\.part.*")


def unpack(bundle: Bundle, folder: Path) -> Path:
    """Folder `<folder>/<first 16 hex digits of the bundle's sha256>` with the bundle's files.

    It is made wholly or not at all. One that is there already is used if every file in it still has its content, and
    made anew otherwise.

    Raises:
        NotWritable: the disk is full or read-only.
    """
    target = folder / bundle.sha256[:16]
    if all(_holds(target / name, content) for name, content in bundle.files.items()):
        return target
    with replacing(target) as temporary:
        for name, content in bundle.files.items():
            write_whole(temporary / name, content)
    return target


def sweep(current: Path) -> None:
    """Remove what other bundles, and unpackings that were killed, left beside the folder `current` of `unpack`."""
    for path in current.parent.iterdir():
        if path != current and _LEFT.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)


def _holds(path: Path, content: bytes) -> bool:
    try:
        return path.read_bytes() == content
    except OSError:
        return False
