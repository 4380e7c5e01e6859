"""Copies among many pictures."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from toolkit.data import duplicates
from toolkit.data.duplicates import near_pairs
from toolkit.data.looks import THUMB, border, perceptual_hash

SIDE = 96


def _brushed(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Horizontal grain under one lamp: all pictures of it have about the same hash."""
    lamp = np.linspace(90, 160, SIDE)[None]
    grain = cv2.GaussianBlur(rng.normal(0, 40, (SIDE, SIDE)).astype(np.float32), (0, 0), sigmaX=9, sigmaY=0.6)
    return np.clip(lamp + grain, 0, 255).astype(np.uint8)


def _pairs(greys: list[NDArray[np.uint8]]) -> list[list[int]]:
    hashes = np.array([perceptual_hash(grey) for grey in greys], np.uint64)
    thumbs = np.stack([cv2.resize(grey, (THUMB, THUMB), interpolation=cv2.INTER_AREA) for grey in greys])
    digests = [grey.tobytes() for grey in greys]
    found: list[list[int]] = near_pairs(digests, hashes, thumbs, lambda row: greys[row]).tolist()
    return found


def _jpeg(grey: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    encoded = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE), np.uint8)


def test_pictures_of_one_brushed_surface_are_no_copies() -> None:
    rng = np.random.default_rng(0)
    greys = [_brushed(rng) for _ in range(60)]
    assert _pairs(greys) == []


@pytest.mark.parametrize("change", ["compressed", "smaller", "brighter", "cropped"])
def test_a_changed_copy_among_them_is_found(change: str) -> None:
    rng = np.random.default_rng(1)
    greys = [_brushed(rng) for _ in range(20)]
    source = greys[7]
    copy = {
        "compressed": lambda: _jpeg(source, 60),
        "smaller": lambda: cv2.resize(source, (64, 64), interpolation=cv2.INTER_AREA),
        "brighter": lambda: np.clip(source * 1.1 + 6.0, 0, 255).astype(np.uint8),
        "cropped": lambda: np.ascontiguousarray(source[:, 3:]),
    }[change]()
    assert _pairs([*greys, copy]) == [[7, 20]]


def test_where_all_thumbs_are_alike_the_nearest_of_each_picture_are_compared_and_no_more() -> None:
    rng = np.random.default_rng(3)
    hashes, thumbs = np.zeros(60, np.uint64), np.empty((60, THUMB, THUMB), np.uint8)
    thumbs[:] = np.clip(rng.normal(128, 40, (THUMB, THUMB)), 0, 255)
    thumbs[:, :8] = np.clip(rng.normal(128, 10, (60, 8, THUMB)), 0, 255)
    thumbs[50] = thumbs[20]
    grains = rng.integers(0, 255, (60, SIDE, SIDE)).astype(np.uint8)
    grains[50] = _jpeg(grains[20], 90)
    candidates = duplicates._candidates(np.arange(60), hashes, duplicates._shapes(thumbs), None)
    assert len(candidates) <= 60 * duplicates.NEAREST
    digests = [bytes([row]) for row in range(60)]
    assert near_pairs(digests, hashes, thumbs, lambda row: grains[row]).tolist() == [[20, 50]]


def test_the_same_bright_spot_on_another_ground_is_no_copy() -> None:
    rng = np.random.default_rng(2)
    greys = []
    for _ in range(20):
        grey = np.clip(rng.normal(120, 8, (SIDE, SIDE)), 0, 255).astype(np.uint8)
        cv2.circle(grey, (40, 50), 12, 230, -1)
        greys.append(grey)
    assert _pairs(greys) == []


def test_even_pictures_are_no_near_copies_of_each_other() -> None:
    assert _pairs([np.full((SIDE, SIDE), level, np.uint8) for level in (10, 11, 200)]) == []


def test_a_border_is_constant_and_other_than_the_picture() -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(100, 200, (100, 80), np.uint8)
    assert border(picture) == 0
    picture[:, :8] = 3
    assert border(picture) == pytest.approx(0.1)
    assert border(_jpeg(picture, 90)) == pytest.approx(0.1, abs=0.03)
    assert border(np.full((50, 50), 7, np.uint8)) == 0
