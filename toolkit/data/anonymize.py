"""A copy of a folder of pictures without what could tell who or where: zones, faces, Exif and all other metadata.

The pictures are read once and written anew elsewhere; there is no way back from the copy. A lossless format keeps every
pixel outside of zones and faces, and a jpeg in which nothing has to be hidden or turned keeps its compressed data.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from device_agent.contract.files import replacing, sweep
from device_agent.contract.reading import read_plain
from device_agent.frames.header import picture_size
from device_agent.frames.picture import MAX_PIXELS
from toolkit.data.faces import Detector
from toolkit.data.listing import passed_over
from toolkit.data.metadata import JPEG, PNG, WEBP, level, orientation, strip, told
from toolkit.data.pool import Pool, check_free, copy_roles, open_pool, with_split, write_manifest
from toolkit.data.retention import EXPIRES
from toolkit.data.times import read_times
from toolkit.data.zones import Zone, conceal, cut
from toolkit.paths import reading

Progress = Callable[[int, int], None]
Kept = Literal["stripped", "rewritten", "recompressed"]
Picture = NDArray[Any]
QUALITY = 95
LONGEST_DAYS = 36_525
_MOST_BYTES = 512 * 1024 * 1024
_TIME = "time"


class Anonymized(msgspec.Struct, frozen=True, kw_only=True):
    """What was done. `stripped` pictures kept their compressed data, `rewritten` ones every pixel outside of what was
    hidden, `recompressed` ones (jpeg, lossy webp) are of quality 95; `turned` were not upright. `metadata` counts what
    was removed by name, `left_out` the files that are no pictures of the set; `expires` is the first and last date."""

    path: str
    images: int
    stripped: int
    rewritten: int
    recompressed: int
    turned: int
    with_zones: int
    with_faces: int
    faces: int
    metadata: dict[str, int]
    left_out: dict[str, int]
    expires: tuple[str, str] | None


class Clean(NamedTuple):
    """A picture file without metadata, how it was made, and what was found in the old one."""

    data: bytes
    kept: Kept
    turned: bool
    zones: int
    faces: int
    removed: list[str]


def anonymize(
    path: Path,
    out: Path,
    *,
    zones: list[Zone] | None = None,
    detector: Detector | None = None,
    drop: tuple[str, ...] = (),
    keep_days: int | None = None,
    today: date | None = None,
    progress: Progress | None = None,
) -> Anonymized:
    """Write the pictures of a folder to the new folder `out`, which appears when it is whole, or not at all.

    The manifest is kept with its columns but those in `drop`; annotations, notes and all else in the folder stay
    behind. With `keep_days` its column expires says until which day each may be kept: so many days after the day in its
    column time, or after `today` where that is empty; a date that is there already is never put off.

    Raises:
        NotFound: no such folder.
        BadInput: a damaged picture, a zone outside of a picture or for none, a column that is missing, `out` in use.
        NotWritable: the disk is full, read-only or forbids it.
    """
    pool = with_split(open_pool(path))
    zones_of = _zones_of(pool, zones or [])
    columns = _columns(pool, drop, keep_days, today)
    sweep(out.parent, out.name)
    check_free(out, pool.dir)
    made: list[tuple[Kept, bool, int, int]] = []
    removed = Counter[str]()
    with replacing(out) as folder:
        for place, file in enumerate(pool.files):
            clean = clean_picture(pool.dir / file, zones_of[place], detector)
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(clean.data)
            made.append((clean.kept, clean.turned, clean.zones, clean.faces))
            removed.update(set(clean.removed))
            if progress is not None:
                progress(place + 1, len(pool))
        if pool.manifest is not None or keep_days is not None or "split" in columns:
            write_manifest(folder, pool.files, columns)
        copy_roles(pool.dir, folder)
    kept = Counter(one[0] for one in made)
    return Anonymized(
        path=str(out),
        images=len(pool),
        stripped=kept["stripped"],
        rewritten=kept["rewritten"],
        recompressed=kept["recompressed"],
        turned=sum(one[1] for one in made),
        with_zones=sum(one[2] > 0 for one in made),
        with_faces=sum(one[3] > 0 for one in made),
        faces=sum(one[3] for one in made),
        metadata=dict(sorted(removed.items())),
        left_out=passed_over(pool.dir, pool.files),
        expires=_range(columns.get(EXPIRES, [])),
    )


def clean_picture(path: Path, zones: list[Zone], detector: Detector | None = None) -> Clean:
    """One picture without metadata, upright, its zones and faces hidden.

    Raises:
        BadInput: damaged, too large, of a kind that cannot be written, or a zone outside of it.
    """
    data = _read(path)
    turn = orientation(data)
    picture = upright(_decode(path, data), turn)
    height, width = picture.shape[:2]
    found = detector(_shown(picture)) if detector is not None else []
    removed = told(data)
    if turn == 1 and not found and not zones:
        stripped = strip(data)
        if stripped is not None and not told(stripped) and _same(stripped, picture):
            return Clean(stripped, "stripped", False, 0, 0, removed)
    picture = conceal(picture, found, "blur")
    for do in ("blur", "fill"):
        picture = conceal(picture, [zone.box(height, width, str(path)) for zone in zones if zone.do == do], do)
    for zone in zones:
        picture = cut(picture, zone.box(height, width, str(path))) if zone.do == "crop" else picture
    written, lossless = _encode(path, data, picture)
    written = strip(written) or written
    if told(written) or (lossless and not _same(written, picture)):
        raise BadInput(f"{path}: cannot be written without a loss; save it as png first")
    return Clean(written, "rewritten" if lossless else "recompressed", turn != 1, len(zones), len(found), removed)


def upright(picture: Picture, turn: int) -> Picture:
    """The picture turned as Exif orientation `turn`, 1 to 8, says.

    >>> upright(np.array([[1, 2], [3, 4]]), 6).tolist()
    [[3, 1], [4, 2]]
    """
    if turn in (5, 6, 7, 8):
        picture = picture.swapaxes(0, 1)
    if turn in (2, 3, 6, 7):
        picture = picture[:, ::-1]
    if turn in (3, 4, 7, 8):
        picture = picture[::-1]
    return np.ascontiguousarray(picture)


def _zones_of(pool: Pool, zones: list[Zone]) -> list[list[Zone]]:
    """The zones of each picture; one that is for none is a mistake that would leave something in sight."""
    out: list[list[Zone]] = [[] for _ in pool.files]
    for number, zone in enumerate(zones, 1):
        for name in zone.where:
            if name not in pool.columns:
                known = ", ".join(pool.columns) or "none"
                raise BadInput(f"{pool.dir}: zone {number} asks for column {name!r}; it has {known}")
        here = [
            row for row in range(len(pool)) if all(pool.columns[name][row] == said for name, said in zone.where.items())
        ]
        if not here:
            raise BadInput(f"{pool.dir}: zone {number} is for no picture: none has {zone.where}")
        for row in here:
            out[row].append(zone)
    for file, mine in zip(pool.files, out, strict=True):
        if sum(zone.do == "crop" for zone in mine) > 1:
            raise BadInput(f"{pool.dir}: {file} has two zones to crop; one can be kept")
    return out


def _columns(pool: Pool, drop: tuple[str, ...], keep_days: int | None, today: date | None) -> dict[str, list[str]]:
    for name in drop:
        if name not in pool.columns:
            raise BadInput(f"{pool.dir}: no column {name!r} to drop; it has {', '.join(pool.columns) or 'none'}")
    columns = {name: values for name, values in pool.columns.items() if name not in drop}
    if keep_days is None:
        return columns
    if not 0 <= keep_days <= LONGEST_DAYS:
        raise BadInput(f"days to keep must be 0 to {LONGEST_DAYS}, got {keep_days}")
    today = today or date.today()
    taken = read_times(pool.columns.get(_TIME, [""] * len(pool)), pool.files, _TIME)
    before = read_times(pool.columns.get(EXPIRES, [""] * len(pool)), pool.files, EXPIRES)
    expires = []
    for when, end in zip(taken.tolist(), before.tolist(), strict=True):
        last = (today if np.isnan(when) else _day(when)) + timedelta(days=keep_days)
        expires.append((last if np.isnan(end) else min(last, _day(end))).isoformat())
    return columns | {EXPIRES: expires}


def _day(seconds: float) -> date:
    return date(1970, 1, 1) + timedelta(days=int(seconds // 86400))


def _range(days: list[str]) -> tuple[str, str] | None:
    days = [day for day in days if day]
    return (min(days), max(days)) if days else None


def _read(path: Path) -> bytes:
    with reading(path):
        data = read_plain(path, _MOST_BYTES)
    size = picture_size(data)
    if size is None or min(size) < 1:
        raise BadInput(f"{path}: not a whole jpeg, png, bmp, tiff or webp picture")
    if size[0] * size[1] > MAX_PIXELS:
        raise BadInput(f"{path}: {size[1]} x {size[0]} pixels are over the limit of {MAX_PIXELS // 10**6} megapixels")
    return data


def _decode(path: Path, data: bytes) -> Picture:
    """The pixels as they are stored: depth, channels and turn."""
    try:
        picture = cv2.imdecode(np.frombuffer(level(data), np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise BadInput(f"{path}: cannot be decoded: {error.err}") from error
    if picture is None:
        raise BadInput(f"{path}: cannot be decoded, the file is damaged")
    return np.asarray(picture)


def _same(data: bytes, picture: Picture) -> bool:
    again = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    return again is not None and again.dtype == picture.dtype and np.array_equal(again, picture)


def _shown(picture: Picture) -> NDArray[np.uint8]:
    """(h, w, 3) uint8 BGR, as a face detector wants it."""
    if picture.dtype != np.uint8:
        low, high = float(picture.min()), float(picture.max())
        picture = ((picture - low) * (255 / max(high - low, 1e-9))).astype(np.uint8)
    if picture.ndim == 2:
        return np.asarray(cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR), np.uint8)
    return np.ascontiguousarray(picture[:, :, :3], np.uint8)


def _encode(path: Path, data: bytes, picture: Picture) -> tuple[bytes, bool]:
    """The picture in the format of `data`, and whether that is without loss."""
    lossless, options = True, list[int]()
    if data.startswith(PNG):
        suffix = ".png"
    elif data.startswith(JPEG):
        suffix, lossless = ".jpg", False
        sampling = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
        options = [cv2.IMWRITE_JPEG_QUALITY, QUALITY, *sampling]
    elif data.startswith(WEBP):
        suffix, lossless = ".webp", b"VP8L" in data[:64]
        options = [cv2.IMWRITE_WEBP_QUALITY, 101 if lossless else QUALITY]
        if lossless and hasattr(cv2, "IMWRITE_WEBP_LOSSLESS_MODE"):  # the colour under what is transparent too
            options += [cv2.IMWRITE_WEBP_LOSSLESS_MODE, cv2.IMWRITE_WEBP_LOSSLESS_PRESERVE_COLOR]
    else:
        suffix = ".bmp" if data.startswith(b"BM") else ".tiff"
    try:
        good, written = cv2.imencode(suffix, picture, options)
    except cv2.error as error:
        raise BadInput(f"{path}: cannot be written as {suffix[1:]}: {error.err}") from error
    if not good:
        raise BadInput(f"{path}: cannot be written as {suffix[1:]}")
    return bytes(written), lossless
