"""Arrays of images become a data set: png files in a folder per class, and a manifest."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from device_agent.contract.files import replacing, sweep
from device_agent.frames.picture import MAX_PIXELS
from toolkit.data.array_file import ArrayFile, Header
from toolkit.data.classes import ROLES_FILE, check_names
from toolkit.data.images import Progress
from toolkit.data.listing import MANIFEST
from toolkit.data.tables import MOST_ROWS, csv_text
from toolkit.paths import reading

NAMES = ("names", "classes")
LIMIT_GIB = 8.0


class ImportResult(msgspec.Struct, frozen=True, kw_only=True):
    """What was written: size of the images in px, images of each class, columns of the manifest, and the values of the
    array that became 0 and 255."""

    path: str
    images: int
    height: int
    width: int
    channels: int
    classes: dict[str, int]
    columns: list[str]
    range: tuple[float, float]
    source_sha256: str


def import_arrays(
    path: Path,
    out: Path,
    *,
    images: str = "images",
    labels: str = "labels",
    names: str | None = None,
    good: str | None = None,
    columns: Mapping[str, str] | None = None,
    range: tuple[float, float] | None = None,
    bgr: bool = False,
    limit_gib: float = LIMIT_GIB,
    progress: Progress | None = None,
) -> ImportResult:
    """Write the images of an .npz or .npy file as 8-bit png files into the folder `out`, which appears when whole.

    Args:
        images: Name of the array (n, h, w), or (n, h, w, c) with c 1 or 3, of uint8, of floats in [0, 1], or of numbers
            in the stated `range`, whose ends become 0 and 255. RGB, or BGR with `bgr`.
        labels: Name of the array (n,) of texts or of whole numbers, or an .npy file with it.
        names: Name of the array of class names, or a file with one a line; by default "names" or "classes", if there.
        good: The class of good parts, where its name does not say so; written to labels.json.
        columns: Name in the manifest to name of the array (n,), such as {"group": "part_ids"}.

    Raises:
        BadInput: not such arrays, pickled objects, values out of range, labels without a name, over `limit_gib` when
            unpacked, or `out` holds something.
        NotWritable: the disk is full, read-only or forbids it.
    """
    file = ArrayFile(path)
    header = file.header(images)
    count = _check_shape(path, images, header)
    low, high = _check_range(path, images, header, range)
    classes = _classes(file, labels, names, count)
    check_names(path, sorted(set(classes)))
    if good is not None and good not in classes:
        raise BadInput(f"{path}: no image of class {good!r}; the classes are {', '.join(sorted(set(classes)))}")
    extra = {column: _texts(file, key, count) for column, key in (columns or {}).items()}
    _check_free(out)
    sweep(out.parent, out.name)
    digits = len(str(count - 1))
    files = [f"{_folder(name)}/{row:0{digits}d}.png" for row, name in enumerate(classes)]
    scale = None if header.dtype == np.uint8 and range is None else (low, high)
    source = _sha256(path)
    with replacing(out) as folder:
        for name in sorted({file.split("/")[0] for file in files}):
            (folder / name).mkdir(parents=True)
        done = 0
        for batch in file.batches(images, limit_gib):
            for picture in _pictures(path, batch, done, scale, bgr=bgr):
                _write_png(folder / files[done], picture)
                done += 1
                if progress is not None:
                    progress(done, count)
        header_row = ["file", "class", "index", *extra]
        rows = zip(files, classes, map(str, np.arange(count)), *extra.values(), strict=True)
        (folder / MANIFEST).write_text(csv_text(header_row, rows), encoding="utf-8")
        if good is not None:
            (folder / ROLES_FILE).write_bytes(msgspec.json.encode({good: "good"}) + b"\n")
        (folder / "README.md").write_text(_readme(path, source, low, high), encoding="utf-8")
    return ImportResult(
        path=str(out),
        images=count,
        height=header.shape[1],
        width=header.shape[2],
        channels=header.shape[3] if len(header.shape) == 4 else 1,
        classes=dict(sorted(Counter(classes).items())),
        columns=header_row,
        range=(low, high),
        source_sha256=source,
    )


def _check_shape(path: Path, name: str, header: Header) -> int:
    """The number of images."""
    shape = header.shape
    if len(shape) == 4 and shape[3] not in (1, 3) and shape[1] in (1, 3):
        raise BadInput(f"{path}: {name} of shape {shape} has its channels first; save np.moveaxis({name}, 1, -1)")
    if len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] not in (1, 3)) or min(shape) < 1:
        raise BadInput(f"{path}: {name} must be images (n, h, w), or (n, h, w, c) with c 1 or 3, got shape {shape}")
    if shape[0] > MOST_ROWS:
        raise BadInput(f"{path}: {name} has {shape[0]} images; a data set has at most {MOST_ROWS:,}")
    if shape[1] * shape[2] > MAX_PIXELS:
        raise BadInput(f"{path}: {name} has {shape[2]} x {shape[1]} pixels, over {MAX_PIXELS // 10**6} megapixels")
    return shape[0]


def _check_range(path: Path, name: str, header: Header, given: tuple[float, float] | None) -> tuple[float, float]:
    """The values that become 0 and 255."""
    kind = header.dtype.kind
    if kind not in "uif":
        raise BadInput(f"{path}: {name} is {header.dtype}; images are whole numbers or floats")
    if given is not None:
        if not (np.isfinite(given).all() and given[0] < given[1]):
            raise BadInput(f"range must be two numbers, the lower first, got {given[0]:g},{given[1]:g}")
        return given
    if header.dtype != np.uint8 and kind != "f":
        raise BadInput(
            f"{path}: {name} is {header.dtype}; state which values are black and white, such as --range 0,4095"
        )
    return (0.0, 255.0) if kind == "u" else (0.0, 1.0)


def _pictures(
    path: Path, batch: NDArray[Any], first: int, scale: tuple[float, float] | None, *, bgr: bool
) -> Iterator[NDArray[np.uint8]]:
    """Each image of the batch as OpenCV writes it: (h, w) grey or (h, w, 3) BGR uint8."""
    for place, image in enumerate(batch):
        if scale is not None:
            image = _as_bytes(path, image, first + place, *scale)
        if image.ndim == 3:
            image = image[:, :, 0] if image.shape[2] == 1 else image if bgr else image[:, :, ::-1]
        yield np.ascontiguousarray(image, np.uint8)


def _as_bytes(path: Path, image: NDArray[Any], row: int, low: float, high: float) -> NDArray[np.uint8]:
    lowest, highest = float(image.min()), float(image.max())
    if not low <= lowest <= highest <= high:  # NaN is neither
        raise BadInput(
            f"{path}: image {row} has values from {lowest:g} to {highest:g}, outside {low:g} to {high:g}; state which "
            "values are black and white with --range"
        )
    return np.rint((image.astype(np.float64) - low) * (255 / (high - low))).astype(np.uint8)


def _write_png(place: Path, image: NDArray[np.uint8]) -> None:
    place.write_bytes(cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes())


def _classes(file: ArrayFile, labels: str, names: str | None, count: int) -> list[str]:
    """The class of each image."""
    values = _beside(file, labels)
    if values.shape == (count, 1):
        values = values[:, 0]
    if values.shape != (count,):
        raise BadInput(f"{file.path}: {labels} must have one label for each of {count} images, got {values.shape}")
    known = _class_names(file, names)
    if values.dtype.kind in "US":
        classes = _as_texts(values)
        strange = next((name for name in classes if known is not None and name not in known), None)
        if strange is not None:
            raise BadInput(f"{file.path}: {labels} has class {strange!r}; the names are {', '.join(known or [])}")
    elif values.dtype.kind in "iub":
        if known is None:
            classes = [str(int(value)) for value in values]
        elif values.min() < 0 or values.max() >= len(known):
            wrong = values.min() if values.min() < 0 else values.max()
            raise BadInput(f"{file.path}: {labels} has {int(wrong)}; names are there for 0 to {len(known) - 1}")
        else:
            classes = [known[int(value)] for value in values]
    else:
        raise BadInput(f"{file.path}: {labels} is {values.dtype}; labels are whole numbers or texts")
    if "" in classes:
        raise BadInput(f"{file.path}: image {classes.index('')} has an empty class")
    return classes


def _class_names(file: ArrayFile, names: str | None) -> list[str] | None:
    if names is None:
        names = next((name for name in NAMES if name in file.headers and file.headers[name].dtype.kind in "USO"), None)
        if names is None:
            return None
    if names not in file.headers and not names.endswith(".npy") and Path(names).is_file():
        with reading(Path(names)):
            try:
                found = [line.strip() for line in Path(names).read_text(encoding="utf-8-sig").splitlines()]
            except UnicodeDecodeError as error:
                raise BadInput(f"{names}: is no text in utf-8, one class name a line") from error
    else:
        values = _beside(file, names)
        if values.ndim != 1 or values.dtype.kind not in "US":
            raise BadInput(f"{file.path}: {names} must be texts (classes,), got {values.dtype} {values.shape}")
        found = _as_texts(values)
    if not found or "" in found or len(set(found)) < len(found):
        raise BadInput(f"{names}: a class name is empty or stands twice, got {', '.join(found)}")
    return found


def _beside(file: ArrayFile, name: str) -> NDArray[Any]:
    """An array of the file, or of an .npy file of its own."""
    if name not in file.headers and name.endswith(".npy") and Path(name).is_file():
        return ArrayFile(Path(name)).read("images")
    return file.read(name)


def _texts(file: ArrayFile, name: str, count: int) -> list[str]:
    values = _beside(file, name)
    if values.shape != (count,) or values.dtype.kind not in "iubfUSM":
        raise BadInput(
            f"{file.path}: {name} must be numbers, times or texts ({count},), got {values.dtype} {values.shape}"
        )
    return _as_texts(values)


def _as_texts(values: NDArray[Any]) -> list[str]:
    if values.dtype.kind == "M":
        return ["" if text == "NaT" else text for text in np.datetime_as_string(values).tolist()]
    try:
        return [text.decode() if isinstance(text, bytes) else str(text) for text in values.tolist()]
    except UnicodeDecodeError as error:
        raise BadInput(f"a text of the array is not in utf-8: {error.object[:40]!r}") from error


def _folder(name: str) -> str:
    """A folder name for a class; the manifest says the class itself.

    >>> _folder("Hot-Spot"), _folder("../pit|crack")
    ('Hot-Spot', '_pit_crack')
    """
    return re.sub(r"[^\w-]+", "_", name)[:64] or "_"


def _check_free(out: Path) -> None:
    with reading(out):
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise BadInput(f"{out}: is there already; name a folder that is new or empty")


def _sha256(path: Path) -> str:
    with reading(path), path.open("rb") as file:
        digest = hashlib.sha256()
        while part := file.read(1 << 20):
            digest.update(part)
        return digest.hexdigest()


def _readme(path: Path, sha256: str, low: float, high: float) -> str:
    return (
        f"# Images of {path.name}\n\nSource: `{path.name}`, SHA-256 {sha256}, written as png files by `lineside data "
        f"import`; {low:g} became black and {high:g} white. The licence is that of the source.\n"
    )
