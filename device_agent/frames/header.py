"""The size of a picture from its header, before anything is decoded: jpeg, png, bmp, tiff, webp."""

from __future__ import annotations

import struct
import zlib

_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_ALONE = frozenset({0x01, *range(0xD0, 0xD8)})  # markers without a length


def picture_size(data: bytes) -> tuple[int, int] | None:
    """(height, width) in px of a whole picture file, None when it is no picture, is cut short or is damaged.

    A png is checked by the digest of each of its chunks, a jpeg for its end marker, a webp by its length: decoders fill
    what is missing with grey, and some say nothing.

    >>> picture_size(b"BM" + bytes(16) + struct.pack("<ii", 40, -30))
    (30, 40)
    >>> picture_size(b"not a picture") is None
    True
    """
    try:
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            return _png(data)
        if data.startswith(b"\xff\xd8"):
            return _jpeg(data)
        if data.startswith(b"BM"):
            width, height = struct.unpack_from("<ii", data, 18)
            return abs(height), abs(width)
        if data[:4] in (b"II*\0", b"MM\0*"):
            return _tiff(data)
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return _webp(data)
    except struct.error:  # ends within its header
        return None
    return None


def _png(data: bytes) -> tuple[int, int] | None:
    at, kind = 8, b""
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, at)
        (digest,) = struct.unpack_from(">I", data, at + 8 + length)
        if zlib.crc32(memoryview(data)[at + 4 : at + 8 + length]) != digest:
            return None
        at += 12 + length
    width, height = struct.unpack_from(">II", data, 16)
    return height, width


def _jpeg(data: bytes) -> tuple[int, int] | None:
    at = 2
    while True:
        marker, kind = struct.unpack_from(">BB", data, at)
        if marker != 0xFF:
            return None
        if kind == 0xFF:
            at += 1
        elif kind in _JPEG_ALONE:
            at += 2
        elif kind in _JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return (height, width) if data.rfind(b"\xff\xd9") > at else None
        else:
            at += 2 + struct.unpack_from(">H", data, at + 2)[0]


def _tiff(data: bytes) -> tuple[int, int] | None:
    order = "<" if data.startswith(b"II") else ">"
    (at,) = struct.unpack_from(order + "I", data, 4)
    (entries,) = struct.unpack_from(order + "H", data, at)
    found = {}
    for entry in range(at + 2, at + 2 + 12 * entries, 12):
        tag, kind = struct.unpack_from(order + "HH", data, entry)
        found[tag] = struct.unpack_from(order + ("H" if kind == 3 else "I"), data, entry + 8)[0]
    return (found[257], found[256]) if {256, 257} <= found.keys() else None


def _webp(data: bytes) -> tuple[int, int] | None:
    (length,) = struct.unpack_from("<I", data, 4)
    if len(data) < length + 8:
        return None
    kind = data[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return height & 0x3FFF, width & 0x3FFF
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    if kind == b"VP8X":
        wide, low, high = struct.unpack_from("<IHB", data, 23)
        return (low | high << 16) + 1, (wide >> 8) + 1
    return None
