"""Images whose time is up are removed, with their rows in every table; a purge that is killed is finished by the next.

The files that go are first noted in a hidden file beside the manifest, then the manifest is replaced, and then they are
removed. So the manifest names no image that is gone, and no image stays behind unknown.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Collection, Iterable
from datetime import date
from pathlib import Path
from typing import NamedTuple

import msgspec

from device_agent.contract.errors import BadInput, NotFound, NotWritable
from device_agent.contract.files import sweep, write_whole
from device_agent.frames.picture import SUFFIXES
from toolkit.data.classes import BETWEEN, ROLES_FILE, read_stated_roles
from toolkit.data.images import Progress
from toolkit.data.listing import ANNOTATIONS, MANIFEST, MANIFESTS, find_manifest, split_path, within
from toolkit.data.split_file import without_files
from toolkit.data.tables import Table, read_table, without_rows
from toolkit.data.times import read_times
from toolkit.paths import locked, reading, writing

EXPIRES = "expires"
_DAY = 86400


class PurgeResult(msgspec.Struct, frozen=True, kw_only=True):
    """What was removed, or with `dry_run` would be: `removed` files whose time was up, `finished` files of an earlier
    purge that was cut off; how many images are `kept`; `classes_gone` have no image any more; `linked` of the removed
    files have another name on this disk (a hard link), under which their pixels stay."""

    path: str
    today: str
    rule: str
    dry_run: bool
    removed: list[str]
    finished: list[str]
    kept: int
    classes_gone: list[str]
    linked: list[str]


class _Plan(NamedTuple):
    """Everything that is written, before anything is."""

    due: list[str]
    late: list[str]
    tables: dict[Path, bytes | str]
    roles: dict[str, str] | None
    classes_gone: list[str]
    kept: int


def purge(
    path: Path,
    today: date,
    *,
    days: int | None = None,
    column: str | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> PurgeResult:
    """Remove the images of a manifest whose time is up on `today`, and their rows in manifest, annotations and split.

    Without `days`, `column` (default "expires") holds the last day on which an image may be kept, and an empty cell
    keeps it for ever. With `days`, `column` (default "time") says when it was taken, and it goes when that day is more
    than `days` days ago; times with a zone count in UTC. labels.json loses the classes that have no image any more.

    Raises:
        NotFound: no such folder.
        BadInput: no manifest or column, a text that is no time, with `days` an image without one, an image that is
            listed twice or is reached through a link, another purge that runs there.
        NotWritable: something cannot be removed; the same command goes on.
    """
    with reading(path):
        if not path.exists():
            raise NotFound(f"{path}: no such folder")
        manifest = find_manifest(path)
    if manifest is None:
        raise BadInput(f"{path}: has no {MANIFEST}; the column {EXPIRES!r} of one says how long an image may be kept")
    with locked(manifest.parent, f"{path}: another purge runs there"):
        sweep(manifest.parent, *MANIFESTS, manifest.name)
        plan = _plan(manifest, today, days, column)
        files = [*plan.due, *plan.late]
        linked = [file for file in files if _names_of(manifest.parent / file) > 1]
        if not dry_run and files:
            _carry_out(manifest, plan, progress)
    name = column or (EXPIRES if days is None else "time")
    return PurgeResult(
        path=str(path),
        today=today.isoformat(),
        rule=f"{name} before {today}" if days is None else f"{name} more than {days} days before {today}",
        dry_run=dry_run,
        removed=plan.due,
        finished=plan.late,
        kept=plan.kept,
        classes_gone=plan.classes_gone,
        linked=linked,
    )


def _plan(manifest: Path, today: date, days: int | None, column: str | None) -> _Plan:
    folder, table = manifest.parent, read_table(manifest)
    files = [within(manifest, file) for file in table.take_needed("file")]
    twice = next((file for file, count in Counter(files).items() if count > 1), None)
    if twice is not None:
        raise BadInput(f"{manifest}: {twice} is listed twice; which row holds its date is not known")
    up = _time_is_up(table, files, today, days, column)
    due = {file: None for file, is_up in zip(files, up, strict=True) if is_up}  # a set that keeps the order
    listed = set(files)
    late = [file for file in _noted(_note_path(manifest)) if file not in listed]
    for file in [*due, *late]:
        if os.path.realpath(folder / file) != os.path.join(os.path.realpath(folder), *file.split("/")):  # noqa: PTH118
            raise BadInput(f"{folder / file}: is a link, or lies in a folder that is one; its pixels would stay behind")
    classes = table.take("class", "label") or [""] * len(files)
    left = _classes(cell for file, cell in zip(files, classes, strict=True) if file not in due)
    lost = sorted(_classes(classes) - left)
    stated = read_stated_roles(folder / ROLES_FILE)
    roles = {name: role for name, role in stated.items() if name not in lost} if set(stated) & set(lost) else None
    return _Plan(list(due), late, _tables(manifest, due, {*due, *late}), roles, lost, len(files) - len(due))


def _tables(manifest: Path, due: Collection[str], gone: set[str]) -> dict[Path, bytes | str]:
    """The manifest without the images that are `due`, and the tables beside it without all that are `gone`."""
    folder, out = manifest.parent, dict[Path, bytes | str]()
    if due:
        out[manifest] = without_rows(manifest, lambda row: within(manifest, row["file"]) in due)[0]
    if gone and (annotations := folder / ANNOTATIONS).exists():
        read_table(annotations).take_needed("file")
        out[annotations] = without_rows(annotations, lambda row: within(annotations, row["file"]) in gone)[0]
    if gone and (split := split_path(folder, manifest)).exists():
        out[split] = without_files(split, gone)
    return out


def _time_is_up(table: Table, files: list[str], today: date, days: int | None, column: str | None) -> list[bool]:
    name = column or (EXPIRES if days is None else "time")
    has = ", ".join(table.columns)
    texts = table.take(name)
    if texts is None:
        raise BadInput(f"{table.path}: no column {name!r}; it has {has}")
    if days is not None and "" in texts:
        raise BadInput(f"{table.where(texts.index(''))} has no {name}; how old the image is is not known")
    first_day = today.toordinal() - date(1970, 1, 1).toordinal() - (days or 0)
    times = read_times(texts, [table.where(row) for row in range(len(files))], name)
    return [not math.isnan(time) and time // _DAY < first_day for time in times.tolist()]


def _carry_out(manifest: Path, plan: _Plan, progress: Progress | None) -> None:
    folder, note = manifest.parent, _note_path(manifest)
    files = [*plan.due, *plan.late]
    write_whole(note, msgspec.json.encode(files))
    if plan.roles is not None:
        write_whole(folder / ROLES_FILE, msgspec.json.encode(plan.roles))
    for path, content in plan.tables.items():
        write_whole(path, content)
    refused: list[NotWritable] = []
    for done, file in enumerate(files, 1):
        try:
            with writing(folder / file):
                (folder / file).unlink(missing_ok=True)
        except NotWritable as error:
            refused.append(error)
        if progress is not None:
            progress(done, len(files))
    if refused:
        raise NotWritable(f"{refused[0]}; {len(refused)} of {len(files)} images are still there")
    with writing(note):
        for place in {(folder / file).parent for file in files}:
            if place.is_dir():
                handle = os.open(place, os.O_RDONLY)
                try:
                    os.fsync(handle)
                finally:
                    os.close(handle)
        note.unlink()


def _note_path(manifest: Path) -> Path:
    return manifest.with_name(f".{manifest.name}.purge")


def _noted(note: Path) -> list[str]:
    """The images that an earlier purge noted and may not have removed; nothing but images within the folder."""
    with reading(note):
        if not note.exists():
            return []
        try:
            files = msgspec.json.decode(note.read_bytes(), type=list[str])
        except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
            raise BadInput(f"{note}: is no list of images that a purge left; take it away") from error
    strange = next((file for file in files if Path(file).suffix.lower() not in SUFFIXES), None)
    if strange is not None:
        raise BadInput(f"{note}: {strange!r} is no image; no purge has written this list, take it away")
    return [within(note, file) for file in files]


def _names_of(path: Path) -> int:
    with reading(path):
        return path.stat().st_nlink if path.exists() else 0


def _classes(cells: Iterable[str]) -> set[str]:
    return {part.strip() for cell in set(cells) for part in cell.split(BETWEEN)} - {""}
