"""One tiny model in each format, to see whether a runtime works on this machine.

Each computes the mean of each colour of an image (8, 8, 3), times a (3, 2) matrix, plus a bias; the .tflite file in
int8. `tests/device_agent/runtimes/make_tiny.py` makes them, and prints what is packed here.
"""

from __future__ import annotations

import base64
import zlib
from pathlib import Path

from device_agent.contract.manifest import InputSpec

SPEC = InputSpec(height=8, width=8)
LOGITS = {0: (-2.25, -0.75), 255: (2.75, 0.25)}
"""Right answers for an image of this value throughout; the int8 file is off by up to 0.05."""
_PACKED = {
    "tiny.tflite": (
        "eNp9U71OwmAUvS0VS2y0iQxNZHBwYHAg6IBJTZicHBwcHBhsYwNEQCMOOmHDwkMwOBAfwCdg8CmcGJ2MT+Dnve0pfGC0cNLv755z7r1fPSI6"
        "Pzk9INokj4rkkkM2WTwjnhG1GLeMixwR/3mH6IxRY5Qwf1dKydtmfKwTVb6U+sRanlEfzOL6IJ/w5hEjZw2GKfp8lsMofNxtBb2rZN1lOJof"
        "B2tjxjNjgtgGfOr+NzT/IuViLLxT1sp0c1gTP2vgKCY6vzh2Mg4r+aVxGQ9pXCbehNynPLlkOIwZainxL+xD+HzESqiMG99KSW08jVt/ZG00"
        "NI5Gw7gmnsN20K8ueUnrsL3Sx/qCryDjN+iU/tDJtCwz9i3T8KU/19FdL+pUk/WsfmmPtpZ6hPxNF7kGD1GfNI8h5y57Ffg5xB2wtT7pj8zj"
        "JzqWenZumu37/qLO8n4F3z74hHcCPneFD1y++OpGQY+0nuXmd0Ayonn9Srjvwu0nOTvpxULO/+lIj9rdoBmhFgbO29AT7T3s8WejChiLlqP5"
        "EJ3yolflHwxHWdY="
    ),
    "tiny.onnx": (
        "eNo1jj0KwkAQRnfXVYfBaFhE0glamRtooSGNELCxtIs6xEVXhY2onUfJScxdPIlriMWDj483PwCzD8cpNrVJM1LSUHoe4Zr2tx2tXA49lOmD"
        "bMQjUfB22EM4El332tiAFVzgGKsZbN9JZ4fcotzq1KrW6ZLp3I7kkoxRMtfnZziBBgifx381CRh7LRwlYyxyuMzKXxf2K7FalYBr5o73Zvh/"
        "c4B94MpHAdwBNY1tgPVd1cWOM6A2RCyR+d4Xz+wxkA=="
    ),
    "tiny.xml": (
        "eNrFlt1OgzAUx1+F9FplLYzNhGGMiYkXSxZfYKnjTInQElqM8+ltC3VMV1fZheHi9LQ9H7/+WUd6816VwRs0ouBsgfDVBN1kKQMZMFrBAsmC"
        "7dBgHaMsLelO+b0NinyBJqjfvqKNshIaNSN39XBmkIXXAqTOlFNJA/FC9UZ8MVdPhAIooQIm1138NiIozFLeyrqVWVrzRpqS1yioG9gUXcb7"
        "ldqm8hVVhtNQGzOeO8ZRPw51OmVs9tAgDcmwJbvjTKieeyrjOYkOCYokRhaSoIBvt2qvOTNRfGjwxAPwQSXpeifevRPb+yPk7QaWQBmxAPsp"
        "J8UrQL1WpYQSgZYCdJcFO2xyMv7Qv3JgB1hfa5zy/gpHBwpHYxTW76hVOLoYaKyk7UUm8d/e4mjA4q94bFmWVC7bMrYwneukkQ1louYC1tRq"
        "PZh7+qP+p3T+De0szf3PaXqg+fRczfFQ8/jrhz0ff3H5oyQW5TbPEwuixk4M2kq+fmo4zTdUqH5ZW9U7X23JCW3x/2s72996oi3lbH/jaffY"
        "sYwAtzC2fGj/EyF/ht4E24ZXl2bB3PbG1eEGWXK7RIzTLUy0ED+CsV8wPhpM3MHxycqRX/DxyrE7ODlZeeoXfLxy4g6efa8c9pKF6qMn+wQt"
        "jPSN"
    ),
    "tiny.bin": ("eNpjZIAAJgYYaLAH4v1AhgMQA9kM+6FidkC8DwBWxwX7"),
}


def write(folder: Path) -> None:
    """Write tiny.tflite, tiny.onnx, tiny.xml and tiny.bin into `folder`."""
    for name, content in _PACKED.items():
        (folder / name).write_bytes(zlib.decompress(base64.b64decode(content)))
