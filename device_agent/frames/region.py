"""The part of a frame that is looked at."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput


class Region(NamedTuple):
    """A rectangle in shares of the frame, 0 to 1 from the upper left corner."""

    left: float
    top: float
    width: float
    height: float

    def cut(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The rectangle of an image (h, w) or (h, w, c), at least one pixel each way.

        >>> Region(0.5, 0.0, 0.5, 0.25).cut(np.zeros((8, 8, 3), np.uint8)).shape
        (2, 4, 3)
        """
        height, width = image.shape[:2]
        top, left = min(round(self.top * height), height - 1), min(round(self.left * width), width - 1)
        bottom = max(round((self.top + self.height) * height), top + 1)
        return image[top:bottom, left : max(round((self.left + self.width) * width), left + 1)]


def parse_region(text: str) -> Region:
    """A region as people write it.

    >>> parse_region("0.1,0,0.8,1")
    Region(left=0.1, top=0.0, width=0.8, height=1.0)

    Raises:
        BadInput: not four shares, or a rectangle that is empty or leaves the frame.
    """
    try:
        left, top, width, height = (float(part) for part in text.split(","))
    except ValueError:
        left = top = width = height = float("nan")
    slack = 1 + 1e-9
    inside = 0 <= left < 1 and 0 <= top < 1 and left + width <= slack and top + height <= slack
    if not (inside and width > 0 and height > 0):
        raise BadInput(
            f"roi {text!r}: must be left,top,width,height in shares of the frame that stay inside it, as 0.1,0,0.8,1"
        )
    return Region(left, top, width, height)
