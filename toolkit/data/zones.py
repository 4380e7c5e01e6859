"""Zones of a picture that must not be seen: made illegible, filled, or all but one cut away.

[[zone]]
do = "blur"                        # or "fill", or "crop": keep the zone alone
share = [0.0, 0.0, 0.25, 0.1]      # left, top, right, bottom as shares of width and height; or pixels = [...]
where = { camera = "c1" }          # only pictures with this in a column of the manifest
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput, NotFound
from toolkit.paths import reading

MOST_CELLS = 4  # of the longer side of a blurred zone: what is left is a colour, not a face, a name or a number
Picture = NDArray[Any]


class Box(NamedTuple):
    """A rectangle in px: `left` and `top` belong to it, `right` and `bottom` do not."""

    left: int
    top: int
    right: int
    bottom: int


class Zone(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rectangle of the upright picture, and what is to be done with it."""

    do: Literal["blur", "fill", "crop"]
    share: tuple[float, float, float, float] | None = None
    pixels: tuple[int, int, int, int] | None = None
    where: dict[str, str] = {}

    def box(self, height: int, width: int, file: str) -> Box:
        """The rectangle in a picture of this size; a share covers every pixel that it touches.

        Raises:
            BadInput: it does not lie in the picture.
        """
        if self.share is not None:
            left, top, right, bottom = self.share
            return Box(
                math.floor(left * width), math.floor(top * height), math.ceil(right * width), math.ceil(bottom * height)
            )
        box = Box(*(self.pixels or (0, 0, 0, 0)))
        if box.right > width or box.bottom > height:
            raise BadInput(f"{file}: a zone ends at {box.right}, {box.bottom} px, the picture is {width} x {height}")
        return box


class _Zones(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    zone: list[Zone]


def read_zones(path: Path) -> list[Zone]:
    """The zones in a TOML file.

    Raises:
        NotFound: no such file.
        BadInput: not TOML, no zone, one without a rectangle or with two, or with one that is none.
    """
    with reading(path):
        if not path.exists():
            raise NotFound(f"{path}: no such file of zones")
        text = path.read_bytes()
    try:
        zones = msgspec.toml.decode(text, type=_Zones).zone
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: {str(error).lower()}") from error
    if not zones:
        raise BadInput(f"{path}: no zone is named")
    for number, zone in enumerate(zones, 1):
        if (zone.share is None) == (zone.pixels is None):
            raise BadInput(f"{path}: zone {number} needs share or pixels, one of the two")
        left, top, right, bottom = zone.share or zone.pixels or (0, 0, 0, 0)
        most = 1 if zone.share is not None else math.inf
        if not (0 <= left < right <= most and 0 <= top < bottom <= most):
            raise BadInput(f"{path}: zone {number} must be left, top, right, bottom within the picture, left < right")
    return zones


def conceal(picture: Picture, boxes: Sequence[Box], do: Literal["blur", "fill"] = "blur") -> Picture:
    """A copy in which nothing can be told from these rectangles; every pixel outside of them is as it was.

    Blurred, a rectangle is at most 4 cells along its longer side, each of one mean colour; filled, it is 0.

    Args:
        picture: (h, w) or (h, w, channels), uint8, uint16 or float32.

    >>> conceal(np.arange(16, dtype=np.uint8).reshape(4, 4), [Box(0, 0, 4, 2)], "fill").tolist()[1:3]
    [[0, 0, 0, 0], [8, 9, 10, 11]]
    """
    out = picture.copy()
    for box in boxes:
        inside = out[box.top : box.bottom, box.left : box.right]
        if inside.size:
            inside[...] = 0 if do == "fill" else _cells(inside)
    return out


def cut(picture: Picture, box: Box) -> Picture:
    """The rectangle alone."""
    return picture[box.top : box.bottom, box.left : box.right].copy()


def _cells(inside: Picture) -> Picture:
    height, width = inside.shape[:2]
    side = max(height, width) / MOST_CELLS
    size = max(1, round(width / side)), max(1, round(height / side))
    coarse = cv2.resize(inside.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    wide = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST).reshape(inside.shape)
    return wide if inside.dtype == np.float32 else np.rint(wide).astype(inside.dtype)
