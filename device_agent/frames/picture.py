"""A picture file becomes a frame: the one decoder for training, evaluation and the device's folder source."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from device_agent.contract.optional import require
from device_agent.contract.reading import read_plain
from device_agent.frames.header import picture_size

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
MAX_PIXELS = 100_000_000
_MAX_BYTES = 512 * 1024 * 1024


def read_picture(path: Path) -> NDArray[np.uint8]:
    """The frame in a file: (h, w, 3) uint8 RGB. Grey is repeated, transparency dropped, 16 bit scaled to 8.

    The size is read from the header first, so that a small file cannot unpack into all the memory there is.

    Raises:
        BadInput: unreadable, not a picture, damaged, or over 100 megapixels.
        MissingPackage: OpenCV is not installed.
    """
    cv2 = require("cv2", extra="camera")
    data = _read(path)
    size = picture_size(data)
    if size is None or min(size) < 1:
        raise BadInput(f"{path}: not a whole jpeg, png, bmp, tiff or webp picture")
    if size[0] * size[1] > MAX_PIXELS:
        raise BadInput(f"{path}: {size[1]} x {size[0]} pixels are over the limit of {MAX_PIXELS // 10**6} megapixels")
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise BadInput(f"{path}: cannot be decoded: {error.err}") from error
    if picture is None:
        raise BadInput(f"{path}: cannot be decoded, the file is damaged")
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)


def _read(path: Path) -> bytes:
    try:
        return read_plain(path, _MAX_BYTES)
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from error
