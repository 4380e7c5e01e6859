"""A small JPEG of a picture, inside a page."""

from __future__ import annotations

import base64
from pathlib import Path

from device_agent.contract.optional import require
from device_agent.frames.picture import read_picture


def thumbnail_uri(path: Path, side_px: int) -> str:
    """A data URI of the picture in a file, its longer side `side_px`; smaller ones are enlarged pixel by pixel.

    Raises:
        BadInput: as for `device_agent.frames.picture.read_picture`.
    """
    cv2 = require("cv2", extra="toolkit")
    picture = read_picture(path)
    height, width = picture.shape[:2]
    scale = side_px / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST)
    content = cv2.imencode(".jpg", small[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
    return f"data:image/jpeg;base64,{base64.b64encode(content.tobytes()).decode()}"
