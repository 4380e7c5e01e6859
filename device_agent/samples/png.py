"""PNG files from arrays, with zlib alone: OpenCV lives in the capture process."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput

MAGIC = b"\x89PNG\r\n\x1a\n"
MOST_SIDE = 8192
_COLOUR = {1: 0, 3: 2, 4: 6}
_HEADER = struct.Struct(">IIBBBBB")
_UP = 2


def write_png(image: NDArray[np.uint8]) -> bytes:
    """An image (height, width, channels) uint8, grey, RGB or RGBA, as a PNG file.

    Raises:
        BadInput: no such array.
    """
    if image.ndim != 3 or image.dtype != np.uint8 or image.shape[2] not in _COLOUR or 0 in image.shape:
        raise BadInput(f"image must be (height, width, 1, 3 or 4) uint8, got {image.shape} {image.dtype}")
    height, width, channels = image.shape
    flat = image.reshape(height, width * channels)
    rows = np.empty((height, width * channels + 1), np.uint8)
    rows[:, 0] = _UP
    rows[0, 1:] = flat[0]
    np.subtract(flat[1:], flat[:-1], out=rows[1:, 1:])
    header = _HEADER.pack(width, height, 8, _COLOUR[channels], 0, 0, 0)
    return b"".join(
        (MAGIC, _chunk(b"IHDR", header), _chunk(b"IDAT", zlib.compress(rows.tobytes())), _chunk(b"IEND", b""))
    )


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(content, zlib.crc32(kind)))


def png_size(content: bytes) -> tuple[int, int]:
    """Height and width of a PNG file as `write_png` makes it; what comes after the header is not looked at.

    Raises:
        BadInput: no such file, or one of over 8192 pixels a side.
    """
    head = content[: len(MAGIC) + 8 + _HEADER.size + 4]
    width, height, *_ = _HEADER.unpack(head[16:29]) if len(head) == 33 else (0, 0)
    if head[:16] != MAGIC + b"\x00\x00\x00\x0dIHDR" or not (0 < width <= MOST_SIDE and 0 < height <= MOST_SIDE):
        raise BadInput("not a picture in PNG")
    if head[29:33] != struct.pack(">I", zlib.crc32(head[12:29])):
        raise BadInput("a PNG file with a damaged header")
    return height, width
