"""A frame as a PNG file, with nothing but zlib."""

from __future__ import annotations

import struct
import threading
import time
import zlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from device_agent.local.live import Shot

MOST_PX = 640
HOLD_S = 0.4
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB = 0, 2
_SUB = 1  # each byte as its difference from the pixel to the left: half the size for a line of code


def encode_png(image: NDArray[np.uint8], most_px: int = MOST_PX) -> bytes:
    """The frame (h, w, 1 or 3) uint8 as PNG; of one that is wider or higher than `most_px` every k-th pixel.

    >>> encode_png(np.zeros((2, 3, 3), np.uint8))[1:4]
    b'PNG'
    """
    step = -(-max(image.shape[:2]) // most_px)
    pixels = np.ascontiguousarray(image[::step, ::step])
    height, width, channels = pixels.shape
    lines = np.empty((height, 1 + width * channels), np.uint8)
    lines[:, 0] = _SUB
    flat = pixels.reshape(height, -1)
    lines[:, 1 : 1 + channels] = flat[:, :channels]
    np.subtract(flat[:, channels:], flat[:, :-channels], out=lines[:, 1 + channels :])
    header = struct.pack(">IIBBBBB", width, height, 8, _GREY if channels == 1 else _RGB, 0, 0, 0)
    body = zlib.compress(lines.tobytes(), 1)
    return _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(content, zlib.crc32(kind)))


class Pictures:
    """The shot that is shown, another one at most every 0.4 s, encoded once for all who look: the CPU is the line's."""

    def __init__(self, latest: Callable[[], Shot | None], clock: Callable[[], float] = time.monotonic) -> None:
        self._latest, self._clock, self._lock = latest, clock, threading.Lock()
        self._shown: Shot | None = None
        self._content: bytes | None = None
        self._shown_at = 0.0

    def take(self) -> Shot | None:
        """What is shown from now on, None before the first frame: picture and answer belong together."""
        with self._lock:
            now, latest = self._clock(), self._latest()
            if latest is not self._shown and (self._shown is None or now - self._shown_at >= HOLD_S):
                self._shown, self._content, self._shown_at = latest, None, now
            return self._shown

    def png(self) -> bytes | None:
        """The picture that is shown."""
        if self._shown is None:
            self.take()
        with self._lock:
            if self._content is None and self._shown is not None:
                self._content = encode_png(self._shown.image)
            return self._content
