"""Picture files: size from the header, one decoder, and what is refused before and after decoding."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.contract.errors import BadInput
from device_agent.frames.header import picture_size
from device_agent.frames.picture import SUFFIXES, read_picture

cv2 = pytest.importorskip("cv2", reason="system: opencv not found")

IMAGE = np.random.default_rng(0).integers(0, 256, (48, 65, 3), np.uint8)
LOSSLESS = {".png", ".bmp", ".tif", ".tiff"}


def encoded(suffix: str, image: np.ndarray = IMAGE, *options: int) -> bytes:
    return bytes(cv2.imencode(suffix, image, list(options))[1])


@pytest.mark.parametrize("suffix", sorted(SUFFIXES))
def test_every_format_is_read_as_rgb(tmp_path: Path, suffix: str) -> None:
    smooth = np.zeros((48, 65, 3), np.uint8)
    smooth[:, :, 0], smooth[:, :, 2] = 200, np.linspace(0, 90, 65)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(encoded(suffix, smooth[:, :, ::-1]))
    assert picture_size(path.read_bytes()) == (48, 65)
    picture = read_picture(path)
    assert picture.dtype == np.uint8 and picture.shape == (48, 65, 3) and picture.std() > 50
    assert np.abs(picture.astype(int) - smooth).max() <= (0 if suffix in LOSSLESS else 40)


@pytest.mark.parametrize("shape", [(48, 65), (48, 65, 1), (48, 65, 4)])
def test_grey_and_transparent_pictures_become_rgb(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(".png", np.full(shape, 90, np.uint8)))
    assert (read_picture(path) == 90).all() and read_picture(path).shape == (48, 65, 3)


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        (".jpg", (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)),
        (".webp", (cv2.IMWRITE_WEBP_QUALITY, 40)),
        (".webp", (cv2.IMWRITE_WEBP_QUALITY, 101)),
    ],
)
def test_other_forms_of_a_format(suffix: str, options: tuple[int, ...]) -> None:
    assert picture_size(encoded(suffix, IMAGE, *options)) == (48, 65)


def test_an_extended_webp_and_a_big_endian_tiff() -> None:
    body = b"VP8X" + struct.pack("<I", 10) + bytes(4) + (299).to_bytes(3, "little") + (70_000).to_bytes(3, "little")
    assert picture_size(b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body) == (70_001, 300)
    entries = struct.pack(">HHIHH", 256, 3, 1, 640, 0) + struct.pack(">HHII", 257, 4, 1, 480)
    assert picture_size(b"MM\0*" + struct.pack(">IH", 8, 2) + entries) == (480, 640)


@pytest.mark.parametrize("suffix", sorted(SUFFIXES))
@pytest.mark.parametrize("keep", [0.0, 0.05, 0.5, 0.95])
def test_a_file_that_is_cut_short_is_refused(tmp_path: Path, suffix: str, keep: float) -> None:
    content = encoded(suffix)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(BadInput, match=r"a\.\w+: (not a whole|cannot be decoded)"):
        read_picture(path)


def test_a_flipped_bit_in_a_png_is_found() -> None:
    content = bytearray(encoded(".png"))
    content[len(content) // 2] ^= 1
    assert picture_size(bytes(content)) is None


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def test_a_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    head = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 0, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )
    path = tmp_path / "bomb.png"
    path.write_bytes(bomb)
    with pytest.raises(BadInput, match="40000 x 40000 pixels are over the limit of 100 megapixels"):
        read_picture(path)


def test_a_damaged_body_behind_a_sound_header_is_refused(tmp_path: Path) -> None:
    head = struct.pack(">IIBBBBB", 40, 40, 8, 0, 0, 0, 0)
    broken = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"not zlib") + chunk(b"IEND", b"")
    path = tmp_path / "broken.png"
    path.write_bytes(broken)
    with pytest.raises(BadInput, match="cannot be decoded"):
        read_picture(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.png", tmp_path):
        with pytest.raises(BadInput, match="cannot be read"):
            read_picture(path)


@given(
    st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"II*\0", b"MM\0*", b"RIFF....WEBP"]),
    st.binary(),
)
def test_no_bytes_make_the_header_reader_fail(start: bytes, rest: bytes) -> None:
    size = picture_size(start + rest)
    assert size is None or len(size) == 2
