"""A sealed sample: opened by the fleet's key alone, refused after any change, and no picture on the disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.contract.codec import SCHEMA
from device_agent.contract.errors import BadInput, LinesideError, NotFound, TrustFailed
from device_agent.frames.surface import KINDS, draw
from device_agent.samples.png import png_size, write_png
from device_agent.samples.seal import Content, Head, key_id, read_head, read_private, read_public, seal, unseal
from fleet.keys import create, utc_now

PRIVATE = X25519PrivateKey.generate()
PUBLIC = PRIVATE.public_key()
PICTURE = write_png(draw(np.random.default_rng(3), KINDS[1], size=64))


def head() -> Head:
    return Head(SCHEMA, "press-1", b"modelone", 1_760_000_000_000, 51, "low", None, key_id(PUBLIC))


def sealed() -> bytes:
    return seal(head(), Content(SCHEMA, PICTURE, 0.25, "review"), PUBLIC)


SEALED = sealed()


def test_what_was_sealed_is_opened_by_the_key_and_read_in_part_by_anybody():
    assert unseal(SEALED, PRIVATE) == (head(), Content(SCHEMA, PICTURE, 0.25, "review"))
    assert read_head(SEALED) == head()


@settings(max_examples=300, deadline=None)
@given(at=st.integers(0, len(SEALED) * 8 - 1))
def test_one_flipped_bit_anywhere_is_refused(at):
    changed = bytearray(SEALED)
    changed[at // 8] ^= 1 << at % 8
    with pytest.raises(LinesideError):
        unseal(bytes(changed), PRIVATE)


def test_every_flipped_bit_of_head_and_key_is_refused():
    for at in range(8 * (len(SEALED) - len(PICTURE))):
        changed = bytearray(SEALED)
        changed[at // 8] ^= 1 << at % 8
        with pytest.raises(LinesideError):
            unseal(bytes(changed), PRIVATE)


@settings(max_examples=100, deadline=None)
@given(length=st.integers(0, len(SEALED) - 1), tail=st.binary(max_size=40))
def test_what_is_cut_or_spliced_is_refused(length, tail):
    if SEALED[:length] + tail != SEALED:
        with pytest.raises(LinesideError):
            unseal(SEALED[:length] + tail, PRIVATE)


@settings(max_examples=200, deadline=None)
@given(junk=st.binary(max_size=300))
def test_junk_is_refused_in_one_sentence(junk):
    for content in (junk, b"LSMP" + junk):
        with pytest.raises(LinesideError):
            unseal(content, PRIVATE)


def test_another_fleets_key_is_told_from_a_change():
    with pytest.raises(TrustFailed, match="sealed to another key"):
        unseal(SEALED, X25519PrivateKey.generate())
    with pytest.raises(TrustFailed, match="was changed"):
        unseal(SEALED[:-1] + bytes([SEALED[-1] ^ 1]), PRIVATE)


@pytest.mark.parametrize("point", [bytes(32), b"\x01" + bytes(31)], ids=["zero", "one"])
def test_a_key_of_small_order_is_refused(point):
    at = SEALED.index(head().key_id) + 8
    with pytest.raises(TrustFailed):
        unseal(SEALED[:at] + point + SEALED[at + 32 :], PRIVATE)


def test_a_file_is_no_picture_and_looks_like_noise():
    for magic in (b"\x89PNG", b"IHDR", b"IDAT", b"\xff\xd8\xff", b"JFIF", b"review"):
        assert magic not in SEALED
    body = np.frombuffer(SEALED[-len(PICTURE) :], np.uint8)
    shares = np.bincount(body, minlength=256) / body.size
    entropy = -np.sum(shares[shares > 0] * np.log2(shares[shares > 0]))
    assert entropy > 8 - 1.5 * 255 / (2 * np.log(2) * body.size)
    assert abs(np.corrcoef(body[:-1], body[1:])[0, 1]) < 5 / np.sqrt(body.size)


def test_two_seals_of_one_picture_share_nothing_that_is_sealed():
    one, other = sealed(), sealed()
    assert one != other
    same = np.mean(np.frombuffer(one[-1000:], np.uint8) == np.frombuffer(other[-1000:], np.uint8))
    assert same < 0.03


def test_the_device_keeps_nothing_that_opens_a_sample(tmp_path):
    create(tmp_path, ["localhost"], utc_now())
    with pytest.raises(BadInput, match=r"samples\.key"):
        read_private(tmp_path / "samples.pub")
    made = seal(head(), Content(SCHEMA, PICTURE, 0.0), read_public(tmp_path / "samples.pub"))
    with pytest.raises(TrustFailed):
        unseal(made, PRIVATE)


@pytest.mark.parametrize("name", ["signing.pub", "authority.pem", "samples.key"])
def test_another_file_of_the_fleet_is_no_key_for_samples(tmp_path, name):
    create(tmp_path, ["localhost"], utc_now())
    with pytest.raises(BadInput, match=r"must be samples\.pub"):
        read_public(tmp_path / name)
    with pytest.raises(NotFound, match="no such file"):
        read_public(tmp_path / "other.pub")


@settings(max_examples=50, deadline=None)
@given(height=st.integers(1, 30), width=st.integers(1, 30), channels=st.sampled_from([1, 3, 4]), seed=st.integers(0, 9))
def test_a_png_file_holds_the_pixels(height, width, channels, seed):
    cv2 = pytest.importorskip("cv2", reason="package: opencv not installed")
    image = np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)
    written = write_png(image)
    assert png_size(written) == (height, width)
    read = cv2.imdecode(np.frombuffer(written, np.uint8), cv2.IMREAD_UNCHANGED).reshape(height, width, channels)
    order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[channels]
    assert np.array_equal(read[:, :, order], image)


@pytest.mark.parametrize(
    "content", [b"", b"GIF89a", PICTURE[:20], PICTURE[:17] + b"\x7f" + PICTURE[18:]], ids=["none", "gif", "cut", "huge"]
)
def test_what_is_no_picture_is_refused(content):
    with pytest.raises(BadInput):
        png_size(content)


@pytest.mark.parametrize("shape", [(4, 4), (0, 4, 3), (4, 4, 2)])
def test_what_is_no_image_is_not_written(shape):
    with pytest.raises(BadInput, match="image must be"):
        write_png(np.zeros(shape, np.uint8))


def test_the_head_that_stands_in_clear_is_small(tmp_path: Path):
    assert len(SEALED) - len(PICTURE) < 150
