"""PNG files that another program reads pixel for pixel, and no more of them than are looked at."""

from __future__ import annotations

import numpy as np
import pytest

from device_agent.classify import Prediction
from device_agent.local import picture
from device_agent.local.live import Shot
from device_agent.local.picture import Pictures, encode_png

ANSWER = Prediction(0, 0.9, 2.2, 8)


@pytest.mark.parametrize("shape", [(1, 1, 3), (5, 7, 1), (48, 64, 3), (224, 224, 1), (3, 640, 3)])
def test_every_pixel_comes_back(tmp_path, shape):
    pytest.importorskip("cv2", reason="package: opencv-python-headless not installed")
    from device_agent.frames.picture import read_picture

    image = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    (tmp_path / "frame.png").write_bytes(encode_png(image))
    assert np.array_equal(read_picture(tmp_path / "frame.png"), np.broadcast_to(image, (*shape[:2], 3)))


def test_a_large_frame_is_thinned_and_one_that_is_a_view_is_taken(tmp_path):
    pytest.importorskip("cv2", reason="package: opencv-python-headless not installed")
    from device_agent.frames.picture import read_picture

    image = np.random.default_rng(1).integers(0, 256, (1080, 1920, 3), dtype=np.uint8)[:, ::-1]
    (tmp_path / "frame.png").write_bytes(encode_png(image))
    assert np.array_equal(read_picture(tmp_path / "frame.png"), image[::3, ::3])


def shot(grey: int) -> Shot:
    return Shot(np.full((8, 8, 3), grey, np.uint8), ANSWER, None)


def test_a_picture_is_encoded_once_for_all_who_look_and_not_at_all_for_nobody(clock, monkeypatch):
    made = []
    monkeypatch.setattr(picture, "encode_png", lambda image: made.append(image) or bytes([image[0, 0, 0]]))
    latest = [None]
    pictures = Pictures(lambda: latest[0], clock.seconds)
    assert pictures.take() is None and pictures.png() is None
    latest[0] = shot(1)
    assert [pictures.png() for _ in range(3)] == [b"\1"] * 3
    latest[0] = shot(2)
    assert pictures.take().image[0, 0, 0] == 1 and pictures.png() == b"\1", "shown for 0.4 s at least"
    clock.pass_s(0.5)
    assert len(made) == 1
    assert pictures.take() is latest[0] and pictures.png() == b"\2"
    clock.pass_s(9)
    assert pictures.take() is latest[0] and pictures.png() == b"\2" and len(made) == 2


def test_the_picture_is_that_of_the_answer_that_was_taken(clock):
    latest = [shot(1)]
    pictures = Pictures(lambda: latest[0], clock.seconds)
    taken = pictures.take()
    latest[0] = shot(2)
    clock.pass_s(5)
    assert pictures.png() == encode_png(taken.image)
