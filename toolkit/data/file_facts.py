"""What the bytes of a picture file say before its pixels are looked at: format, JPEG quality, camera, time."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

_MAGIC = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg", b"BM": "bmp", b"II*\0": "tiff", b"MM\0*": "tiff", b"RIFF": "webp"}
_LUMINANCE_SUM = 3693  # of the quantization table in ITU T.81, annex K, which the quality scales
_TIME, _MAKE, _MODEL, _EXIF_IFD, _TIME_TAKEN = 0x0132, 0x010F, 0x0110, 0x8769, 0x9003
_MOST_TAGS = 500


class FileFacts(NamedTuple):
    """Format ("png"), estimated JPEG quality 1 to 100 or NaN, camera and capture time ("2026-03-01 12:00:00") as EXIF
    says them, empty where it does not."""

    format: str
    quality: float
    camera: str
    time: str


def file_facts(data: bytes) -> FileFacts:
    """The facts of a file's bytes; what is damaged or missing is left empty.

    >>> file_facts(b"BM" + bytes(60))
    FileFacts(format='bmp', quality=nan, camera='', time='')
    """
    kind = next((name for magic, name in _MAGIC.items() if data.startswith(magic)), "other")
    if kind != "jpeg":
        return FileFacts(kind, float("nan"), "", "")
    quality, tags = float("nan"), dict[int, str]()
    try:
        for marker, body in _segments(data):
            if marker == 0xDB and body[0] & 15 == 0 and quality != quality:
                quality = _quality(body)
            elif marker == 0xE1 and body.startswith(b"Exif\0\0"):
                tags |= _tags(body[6:])
    except (struct.error, IndexError, ValueError):
        pass  # such a file may still decode; what was read so far stands
    camera = " ".join(filter(None, (tags.get(_MAKE), tags.get(_MODEL))))
    time = re.sub(r"^(\d{4}):(\d\d):(\d\d)", r"\1-\2-\3", tags.get(_TIME_TAKEN) or tags.get(_TIME) or "")
    return FileFacts(kind, quality, camera, time)


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and content of each segment up to the pixels."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        length = struct.unpack_from(">H", data, at + 2)[0]
        yield data[at + 1], data[at + 4 : at + 2 + length]
        at += 2 + max(length, 2)


def _quality(body: bytes) -> float:
    """The quality at which the IJG's scaling of the standard table comes nearest."""
    table = np.frombuffer(body[1:], ">u2" if body[0] >> 4 else "u1", 64)
    scale = 100 * float(table.astype(np.float64).sum()) / _LUMINANCE_SUM
    return float(np.clip(round((200 - scale) / 2 if scale <= 100 else 5000 / scale), 1, 100))


def _tags(tiff: bytes) -> dict[int, str]:
    """The texts in both directories of an EXIF block."""
    order = "<" if tiff.startswith(b"II") else ">"
    found: dict[int, str] = {}
    places = [struct.unpack_from(f"{order}I", tiff, 4)[0]]
    for place in places:
        (count,) = struct.unpack_from(f"{order}H", tiff, place)
        for number in range(min(count, _MOST_TAGS)):
            tag, kind, length, value = struct.unpack_from(f"{order}HHII", tiff, place + 2 + 12 * number)
            if tag == _EXIF_IFD and len(places) == 1:
                places.append(value)
            elif kind == 2 and tag in (_TIME, _MAKE, _MODEL, _TIME_TAKEN):
                start = value if length > 4 else place + 2 + 12 * number + 8
                found[tag] = tiff[start : start + min(length, 64)].split(b"\0")[0].decode("latin-1").strip()
    return found
