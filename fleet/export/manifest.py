"""What a folder of exported files holds, and that one export at a time writes to it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from device_agent.contract.codec import read_document
from device_agent.contract.errors import BadInput, NotWritable
from device_agent.contract.files import sweep, write_whole
from fleet.export.columns import Column, about
from fleet.export.tables import TABLES, Chosen

MANIFEST = "_export.json"
"""A name that readers of partitioned folders leave out."""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a folder. `state` tells what it was made of from what the store holds now; `whole` False: it was
    written when some of its reports were gone already."""

    rows: int
    bytes: int
    state: str
    whole: bool = True


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What is exported: `what` of `TABLES`, in which form, whose, and whether finished months are one file each."""

    what: str
    format: str = "parquet"
    tidy: bool = False
    months: bool = False
    chosen: Chosen = Chosen()


class Manifest(msgspec.Struct, kw_only=True):
    """What a folder holds, its parts by name such as "day=2026-11-20"; "" is the one of a table without a time."""

    schema: str = "1.0"
    request: Request
    columns: list[Column]
    parts: dict[str, Part] = {}


def check(request: Request) -> None:
    """Refuse what no table can be exported as.

    Raises:
        BadInput: a tidy form of a table without a histogram, or months of reports.
    """
    if request.tidy and not TABLES[request.what].cells:
        raise BadInput(f"{request.what}: have no histogram, so no tidy form; reports, hours and days have one")
    if request.months and (request.what == "reports" or TABLES[request.what].moment is None):
        raise BadInput(f"{request.what}: cannot be a file a month; hours, days, alerts, gaps, events and labels can")


def open_manifest(folder: Path, request: Request) -> Manifest:
    """What the folder holds; a new one gets its manifest first, so that it can be told whose it is."""
    path, columns = folder / MANIFEST, about(request.what, tidy=request.tidy).columns
    if not path.exists():
        if any(not each.name.startswith(".") for each in folder.iterdir()):
            raise BadInput(f"{folder}: holds something else; name a new folder for the export")
        manifest = Manifest(request=request, columns=columns)
        save(folder, manifest)
        return manifest
    manifest = read_document(path.read_bytes(), Manifest, where=str(path))
    if manifest.request != request or manifest.columns != columns:
        held = manifest.request
        raise BadInput(
            f"{folder}: holds another export ({held.what} as {held.format}, or of other devices, form or version); "
            f"name another folder"
        )
    return manifest


def save(folder: Path, manifest: Manifest) -> None:
    write_whole(folder / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n")


@contextmanager
def one_export(folder: Path) -> Iterator[None]:
    """A block in which no other export writes to the folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileExistsError:
        raise BadInput(f"{folder}: is a file; name a folder, or a file that ends in .parquet, .csv or .jsonl") from None
    except OSError as error:
        raise NotWritable(f"{folder}: cannot be written: {(error.strerror or str(error)).lower()}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        sweep(folder)
        yield
    except BlockingIOError:
        raise BadInput(f"{folder}: another export writes there; wait for its end") from None
    finally:
        os.close(handle)
