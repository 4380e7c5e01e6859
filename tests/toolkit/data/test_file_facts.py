"""What the bytes of a picture file say."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest

from toolkit.data.file_facts import file_facts

PICTURE = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)


def _jpeg(quality: int) -> bytes:
    return bytes(cv2.imencode(".jpg", PICTURE, [cv2.IMWRITE_JPEG_QUALITY, quality])[1])


def _with_exif(model: bytes, time: bytes) -> bytes:
    """A JPEG with the camera in the first directory and the time in the second."""
    texts = [model + b"\0", time + b"\0"]
    first, second = 8, 8 + 2 + 2 * 12 + 4
    free = second + 2 + 12 + 4
    tiff = struct.pack("<2sHI", b"II", 42, first)
    tiff += struct.pack("<HHHIIHHIII", 2, 0x0110, 2, len(texts[0]), free, 0x8769, 4, 1, second, 0)
    tiff += struct.pack("<HHHIII", 1, 0x9003, 2, len(texts[1]), free + len(texts[0]), 0)
    body = b"Exif\0\0" + tiff + b"".join(texts)
    return b"\xff\xd8\xff\xe1" + struct.pack(">H", len(body) + 2) + body + _jpeg(80)[2:]


@pytest.mark.parametrize("quality", [35, 50, 75, 92])
def test_the_quality_of_a_jpeg_is_that_it_was_written_with(quality: int) -> None:
    facts = file_facts(_jpeg(quality))
    assert facts.format == "jpeg"
    assert facts.quality == pytest.approx(quality, abs=1)


def test_camera_and_time_are_read_from_exif() -> None:
    facts = file_facts(_with_exif(b"Line cam 7", b"2026:03:01 12:30:00"))
    assert (facts.camera, facts.time) == ("Line cam 7", "2026-03-01 12:30:00")


@pytest.mark.parametrize("end", range(0, 160, 7))
def test_a_file_that_is_cut_short_is_no_error(end: int) -> None:
    file_facts(_with_exif(b"Line cam 7", b"2026:03:01 12:30:00")[:end])


def test_a_png_is_a_png() -> None:
    assert file_facts(bytes(cv2.imencode(".png", PICTURE)[1])).format == "png"
