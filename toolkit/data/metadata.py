"""What a picture file says besides its pixels: found, and taken out without touching the pixels.

JPEG: marker segments (ITU-T T.81, annex B), Exif 2.32; PNG: chunks (ISO/IEC 15948); WebP: RIFF chunks (RFC 9649);
TIFF: tags (TIFF 6.0). What is kept is a list of what a decoder needs; everything else goes, also what nobody has heard
of yet.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

PNG, JPEG, WEBP = b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"RIFF"
_PNG_KEPT = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
_WEBP_KEPT = frozenset({b"VP8 ", b"VP8L", b"VP8X", b"ALPH"})
_VP8X_SAYS = 0x20 | 0x08 | 0x04  # flags for a colour profile, Exif and XMP
_FRAMES = frozenset(range(0xC0, 0xD0))  # frame headers, Huffman and arithmetic tables
_JPEG_KEPT = _FRAMES | frozenset({0xDA, 0xDB, 0xDC, 0xDD})  # and scans, quantization tables, lines, restarts
_ADOBE = 0xEE  # tells in which colours the pixels are
_JFIF = b"\xff\xe0\x00\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0"
_TIFF_KEPT = frozenset({*range(256, 260), 262, 266, 273, *range(277, 280), 282, 283, 284, 296, 317, 338, 339})
_ORIENTATION = 274


def strip(data: bytes) -> bytes | None:
    """The same compressed pixels without anything else; None for a format, or a file, that has to be written anew.

    >>> strip(b"BM") is None
    True
    """
    try:
        if data.startswith(PNG):
            kept = [chunk for kind, chunk in _png_chunks(data) if kind in _PNG_KEPT]
            return PNG + b"".join(kept)
        if data.startswith(JPEG):
            return _strip_jpeg(data)
        if data.startswith(WEBP) and data[8:12] == b"WEBP":
            return _strip_webp(data)
    except struct.error:
        return None
    return None


def told(data: bytes) -> list[str]:
    """What a picture file holds besides what is needed to decode it: names of segments, chunks or tags, in order; a
    jpeg's empty JFIF header is not counted.

    >>> told(PNG + struct.pack(">I4s", 3, b"tEXt") + b"a=b" + bytes(4))
    ['tEXt']
    """
    try:
        if data.startswith(PNG):
            return _told_png(data)
        if data.startswith(JPEG):
            return _told_jpeg(data)
        if data.startswith(WEBP):
            found = [_name(kind) for kind, _ in _webp_chunks(data) if kind not in _WEBP_KEPT]
            return found + ["trailer"] * (len(data) > struct.unpack_from("<I", data, 4)[0] + 8)
        if data[:4] in (b"II*\0", b"MM\0*"):
            return [f"tag {tag}" for tag, _ in _tiff_tags(data) if tag not in _TIFF_KEPT]
    except struct.error:
        return ["unknown"]
    return []


def orientation(data: bytes) -> int:
    """How the picture has to be turned to stand upright, 1 to 8 as in Exif; 1 where nothing, or nonsense, is said."""
    try:
        for block in _exif_blocks(data):
            for tag, value in _tiff_tags(block):
                if tag == _ORIENTATION and 1 <= value <= 8:
                    return value
    except struct.error:
        return 1
    return 1


def level(data: bytes) -> bytes:
    """The file with its pixels as they are stored for a decoder that turns a tiff by itself; others as they are."""
    if data[:4] not in (b"II*\0", b"MM\0*"):
        return data
    order, out = "<" if data.startswith(b"II") else ">", bytearray(data)
    try:
        (at,) = struct.unpack_from(order + "I", data, 4)
        for place, (tag, _) in enumerate(_tiff_tags(data)):
            if tag == _ORIENTATION:
                struct.pack_into(order + "HHIH", out, at + 2 + 12 * place, tag, 3, 1, 1)
    except struct.error:
        return data
    return bytes(out)


def _strip_jpeg(data: bytes) -> bytes:
    kept, adobe = [], False
    for marker, segment in _jpeg_segments(data):
        adobe = adobe or (marker == _ADOBE and segment[4:9] == b"Adobe")
        if marker in _JPEG_KEPT or (marker == _ADOBE and segment[4:9] == b"Adobe"):
            kept.append(segment if marker != _ADOBE else b"\xff\xee\x00\x0e" + segment[4:16])
    return JPEG + (b"" if adobe else _JFIF) + b"".join(kept) + b"\xff\xd9"


def _strip_webp(data: bytes) -> bytes | None:
    kept = []
    for kind, chunk in _webp_chunks(data):
        if kind in (b"ANIM", b"ANMF"):
            return None
        if kind == b"VP8X":
            chunk = chunk[:8] + bytes([chunk[8] & ~_VP8X_SAYS]) + chunk[9:]
        if kind in _WEBP_KEPT:
            kept.append(chunk)
    body = b"WEBP" + b"".join(kept)
    return WEBP + struct.pack("<I", len(body)) + body


def _told_png(data: bytes) -> list[str]:
    found, end = [], len(PNG)
    for kind, chunk in _png_chunks(data):
        end += len(chunk)
        if kind not in _PNG_KEPT:
            found.append(_name(kind))
    return found + ["trailer"] * (end < len(data))


def _told_jpeg(data: bytes) -> list[str]:
    found, end = [], len(JPEG)
    for marker, segment in _jpeg_segments(data):
        end += len(segment)
        adobe = marker == _ADOBE and segment[4:9] == b"Adobe" and len(segment) == 16
        if marker not in _JPEG_KEPT and segment != _JFIF and not adobe:
            found.append("comment" if marker == 0xFE else f"APP{marker - 0xE0}" if marker >= 0xE0 else f"{marker:02X}")
    return found + ["trailer"] * (len(data) > end + 2)


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and bytes of each chunk up to the end of the picture."""
    at, kind = len(PNG), b""
    while kind != b"IEND" and at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        yield kind, data[at : at + 12 + length]
        at += 12 + length


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and bytes of each segment between the start and the end of the picture; a scan has its data with it."""
    at = 2
    while True:
        while data[at : at + 2] == b"\xff\xff":  # fill bytes
            at += 1
        mark, marker = struct.unpack_from(">BB", data, at)
        if mark != 0xFF:
            raise struct.error("no marker")
        if marker == 0xD9:
            return
        if 0xD0 <= marker <= 0xD7 or marker == 0x01:  # stands alone
            at += 2
            continue
        end = at + 2 + struct.unpack_from(">H", data, at + 2)[0]
        if marker == 0xDA:
            end = _scan_end(data, end)
        yield marker, data[at:end]
        at = end


def _scan_end(data: bytes, at: int) -> int:
    """Where the next marker is that is no part of the compressed data."""
    while True:
        at = data.find(b"\xff", at)
        if at < 0 or at + 1 >= len(data):
            raise struct.error("cut short")
        if data[at + 1] == 0 or 0xD0 <= data[at + 1] <= 0xD7:
            at += 2
        elif data[at + 1] == 0xFF:
            at += 1
        else:
            return at


def _webp_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at, end = 12, min(len(data), struct.unpack_from("<I", data, 4)[0] + 8)
    while at + 8 <= end:
        kind, length = struct.unpack_from("<4sI", data, at)
        size = 8 + length + length % 2
        yield kind, data[at : at + size]
        at += size


def _exif_blocks(data: bytes) -> Iterator[bytes]:
    if data[:4] in (b"II*\0", b"MM\0*"):
        yield data
    elif data.startswith(PNG):
        yield from (chunk[8:-4] for kind, chunk in _png_chunks(data) if kind == b"eXIf")
    elif data.startswith(JPEG):
        for marker, segment in _jpeg_segments(data):
            if marker == 0xE1 and segment[4:10] == b"Exif\0\0":
                yield segment[10:]
    elif data.startswith(WEBP):
        yield from (chunk[8:].removeprefix(b"Exif\0\0") for kind, chunk in _webp_chunks(data) if kind == b"EXIF")


def _tiff_tags(block: bytes) -> Iterator[tuple[int, int]]:
    """Number and, where it is one short, value of each tag of the first directory."""
    if block[:4] not in (b"II*\0", b"MM\0*"):
        return
    order = "<" if block.startswith(b"II") else ">"
    (at,) = struct.unpack_from(order + "I", block, 4)
    (count,) = struct.unpack_from(order + "H", block, at)
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind, number = struct.unpack_from(order + "HHI", block, entry)
        yield tag, struct.unpack_from(order + "H", block, entry + 8)[0] if (kind, number) == (3, 1) else 0


def _name(kind: bytes) -> str:
    return kind.decode("latin-1").strip()


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """A png chunk with its digest.

    >>> png_chunk(b"IEND", b"").hex()
    '0000000049454e44ae426082'
    """
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
