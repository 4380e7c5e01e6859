"""Which pictures of a set are spoilt, how, and how badly; and a copy of a folder in which some are."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from device_agent.contract.files import replacing, sweep
from device_agent.frames.picture import read_picture
from toolkit.data.corruptions import KINDS, SEVERITIES, check, corrupt
from toolkit.data.pool import Pool, check_free, copy_roles, open_pool, with_split, write_manifest

Progress = Callable[[int, int], None]
COLUMNS = ("corruption", "severity")
CLEAN = ("none", 0)


class Fault(msgspec.Struct, frozen=True):
    """A kind of corruption and its severity, 1 to 5; None is drawn for each picture."""

    kind: str
    severity: int | None = None

    def __str__(self) -> str:
        return self.kind if self.severity is None else f"{self.kind}:{self.severity}"


class Faults(msgspec.Struct, frozen=True, kw_only=True):
    """What may happen to a picture, each as often as the others, and the share of pictures to which it does."""

    any_of: tuple[Fault, ...]
    share: float = 1.0

    def draw(self, rng: np.random.Generator) -> tuple[str, int]:
        """Kind and severity for one picture, or ("none", 0)."""
        if rng.random() >= self.share:
            return CLEAN
        fault = self.any_of[int(rng.integers(len(self.any_of)))]
        drawn = int(rng.integers(SEVERITIES[0], SEVERITIES[-1] + 1))
        return fault.kind, fault.severity or drawn


def read_faults(words: Iterable[str], share: float = 1.0) -> Faults:
    """Faults from words such as "motion", "motion:3", "all" or "all:2".

    >>> [str(fault) for fault in read_faults(["motion:3", "jpeg"]).any_of]
    ['motion:3', 'jpeg']

    Raises:
        BadInput: a kind or severity that does not exist, or a share out of (0, 1].
    """
    any_of = []
    for word in words:
        name, colon, digits = word.partition(":")
        if colon and not (digits.isascii() and digits.isdecimal()):
            raise BadInput(f"severity must be 1 to 5, got {word!r}")
        severity = int(digits) if colon else None
        for kind in KINDS if name == "all" else (name,):
            check(kind, SEVERITIES[0] if severity is None else severity)
            any_of.append(Fault(kind, severity))
    if not any_of:
        raise BadInput(f"no corruption was named; known are {', '.join(KINDS)}, or all")
    if not 0 < share <= 1:
        raise BadInput(f"share of corrupted images must be above 0 and at most 1, got {share:g}")
    return Faults(any_of=tuple(any_of), share=share)


class SpoiltFolder(msgspec.Struct, frozen=True, kw_only=True):
    """A folder of corrupted copies; `spoilt` counts them by kind, "none" among them. `lens` is the column that tells
    lenses apart, None where all pictures are of one."""

    path: str
    images: int
    spoilt: dict[str, int]
    lens: str | None


def spoil(
    folder: Path,
    out: Path,
    faults: Faults,
    *,
    seed: int = 0,
    lens: str | None = None,
    progress: Progress | None = None,
) -> SpoiltFolder:
    """Copy the pictures of `folder` to `out` as png, spoilt as drawn; `out` appears when it is whole, or not at all.

    manifest.csv in `out` has every column that the first had (class, group, split ...), and corruption and severity.
    What is done to a picture depends on its name and the seed, dirt and light on the lens and the seed.

    Args:
        lens: column whose values tell lenses apart; by default camera or device, if there is one.

    Raises:
        NotFound: no such folder.
        BadInput: nothing to copy, a damaged picture, a column that is missing or in the way, `out` is in use.
        NotWritable: the disk is full, read-only or forbids it.
    """
    if seed < 0:
        raise BadInput(f"seed must be 0 or more, got {seed}")
    pool = with_split(open_pool(folder))
    clash = [name for name in COLUMNS if name in pool.columns]
    if clash:
        raise BadInput(f"{folder}: has a column {clash[0]!r} already; corrupt the originals instead")
    lens = lens or next((name for name in ("camera", "device") if name in pool.columns), None)
    if lens is not None and lens not in pool.columns:
        raise BadInput(f"{folder}: no column {lens!r}; it has {', '.join(pool.columns) or 'none'}")
    lenses = [_number(value) for value in pool.columns[lens]] if lens else [0] * len(pool.files)
    names = _png_names(pool)
    sweep(out.parent, out.name)
    check_free(out, pool.dir)
    drawn: list[tuple[str, int]] = []
    with replacing(out) as made:
        for place, (file, name) in enumerate(zip(pool.files, names, strict=True)):
            rng = np.random.default_rng([seed, 2, _number(file)])
            image, fault = read_picture(pool.dir / file), faults.draw(rng)
            if fault != CLEAN:
                image = corrupt(image, *fault, rng, lens=[seed, 3, lenses[place]])
            (made / name).parent.mkdir(parents=True, exist_ok=True)
            (made / name).write_bytes(encode_png(image))
            drawn.append(fault)
            if progress is not None:
                progress(place + 1, len(names))
        kinds, severities = [kind for kind, _ in drawn], [str(severity) for _, severity in drawn]
        write_manifest(made, names, pool.columns | {"corruption": kinds, "severity": severities})
        copy_roles(pool.dir, made)
    return SpoiltFolder(path=str(out), images=len(names), spoilt=dict(sorted(Counter(kinds).items())), lens=lens)


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """A png file of (h, w, 3) uint8 RGB."""
    return bytes(cv2.imencode(".png", image[:, :, ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])[1])


def _number(text: str) -> int:
    return zlib.crc32(text.encode())


def _png_names(pool: Pool) -> list[str]:
    """a.png stays, a.jpg becomes a.jpg.png: a copy in jpeg would be one more corruption."""
    names = [file if file.lower().endswith(".png") else f"{file}.png" for file in pool.files]
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise BadInput(f"{pool.dir}: two pictures would become {twice}; rename one")
    return names
