"""Corruptions: every kind gets worse with its severity, keeps type and shape, and comes from its seed alone."""

from __future__ import annotations

import functools
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from device_agent.frames.surface import draw
from toolkit.data.corruptions import FIXED, KINDS, SEVERITIES, corrupt, defocus, gaussian_blur, motion

Image = NDArray[np.uint8]


@functools.cache
def pictures(height: int, width: int, channels: int = 3) -> list[Image]:
    """Four drawn parts, cut to size."""
    kinds = ("good", "scratch", "pit", "stain")
    drawn = [draw(np.random.default_rng(seed), kind, size=max(32, height, width)) for seed, kind in enumerate(kinds)]
    return [np.ascontiguousarray(image[:height, :width, :channels]) for image in drawn]


def distance(kind: str, severity: int, images: list[Image]) -> float:
    """Mean square distance to the originals."""
    made = [corrupt(image, kind, severity, np.random.default_rng(seed)) for seed, image in enumerate(images)]
    return float(np.mean([np.square(new - old.astype(float)).mean() for new, old in zip(made, images, strict=True)]))


@pytest.mark.parametrize("size", [(24, 40, 3), (96, 96, 1), (224, 224, 3)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_a_higher_severity_is_farther_from_the_picture(kind: str, size: tuple[int, int, int]) -> None:
    images = pictures(*size)
    distances = [distance(kind, severity, images) for severity in SEVERITIES]
    assert distances[0] > 0.3, "the mildest can be seen"
    assert all(np.diff(distances) > 0), distances
    assert distances[-1] > 1.2 * distances[0]


@pytest.mark.parametrize(
    "shape", [(24, 40, 3), (24, 40, 1), (512, 512, 1), (300, 512, 3), (8, 8, 3), (1, 1, 1)], ids=str
)
@pytest.mark.parametrize("kind", KINDS)
def test_type_and_shape_stay_and_the_picture_given_is_not_touched(kind: str, shape: tuple[int, int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    before = image.copy()
    out = corrupt(image, kind, 5, np.random.default_rng(0))
    assert out.dtype == np.uint8 and out.shape == shape and not np.shares_memory(out, image)
    assert np.array_equal(image, before)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_picture_whatever_the_memory_order(kind: str) -> None:
    image = pictures(48, 64)[1]
    again = np.asfortranarray(image)
    first = corrupt(image, kind, 3, np.random.default_rng(7))
    assert np.array_equal(first, corrupt(again, kind, 3, np.random.default_rng(7)))


@pytest.mark.parametrize("kind", ["gaussian-noise", "shot-noise", "impulse-noise", "motion", *sorted(FIXED)])
def test_another_seed_gives_another_picture(kind: str) -> None:
    image = pictures(48, 64)[1]
    made = {corrupt(image, kind, 3, np.random.default_rng(seed)).tobytes() for seed in range(3)}
    assert len(made) == 3


@pytest.mark.parametrize("kind", sorted(FIXED))
def test_a_lens_keeps_its_dirt_from_picture_to_picture(kind: str) -> None:
    white, rng = np.full((64, 64, 3), 240, np.uint8), np.random.default_rng(0)
    first, second = (corrupt(white, kind, 3, rng, lens=5) for _ in range(2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, corrupt(white, kind, 3, rng, lens=6))
    assert rng.bit_generator.state == np.random.default_rng(0).bit_generator.state, "nothing was drawn for it"


def test_noise_is_of_the_moment_whatever_the_lens() -> None:
    grey, rng = np.full((32, 32, 3), 120, np.uint8), np.random.default_rng(0)
    assert not np.array_equal(*(corrupt(grey, "gaussian-noise", 1, rng, lens=5) for _ in range(2)))


def test_dirt_of_a_higher_severity_is_where_it_was_and_more() -> None:
    white = np.full((96, 96, 1), 255, np.uint8)
    soiled = [corrupt(white, "lens-dirt", severity, np.random.default_rng(3)) for severity in SEVERITIES]
    for mild, strong in pairwise(soiled):
        assert (strong <= mild).all()
    assert [int((image < 200).sum()) for image in soiled] == sorted({int((image < 200).sum()) for image in soiled})


def test_the_noise_is_as_strong_as_in_imagenet_c() -> None:
    grey = np.full((256, 256, 3), 128, np.uint8)
    for severity, share in zip(SEVERITIES, (0.08, 0.12, 0.18), strict=False):
        assert corrupt(grey, "gaussian-noise", severity, np.random.default_rng(0)).std() == pytest.approx(
            255 * share, rel=0.03
        )
    failed = corrupt(grey, "impulse-noise", 5, np.random.default_rng(0))
    assert (failed == 0).mean() == pytest.approx(0.135, abs=0.01)
    assert (failed == 255).mean() == pytest.approx(0.135, abs=0.01)
    assert corrupt(grey, "shot-noise", 1, np.random.default_rng(0)).std() == pytest.approx(
        255 * np.sqrt(128 / 255 / 60), rel=0.03
    )


def point(side: int) -> Image:
    image = np.zeros((side, side, 1), np.uint8)
    image[side // 2, side // 2] = 255
    return image


def spread(image: Image) -> float:
    """Standard deviation in px of where the light of a blurred edge goes, along the rows."""
    edge = image[:, :, 0].astype(float).mean(axis=0)
    weight = np.diff(edge)
    at = np.arange(len(weight))
    return float(np.sqrt(np.average((at - np.average(at, weights=weight)) ** 2, weights=weight)))


@pytest.mark.parametrize(("side", "sigma"), [(32, 0.7), (224, 3.0), (128, 1.85), (16, 0.7)])
def test_a_blur_is_as_wide_as_the_line_between_the_two_published_sizes_says(side: int, sigma: float) -> None:
    edge = np.zeros((side, side, 1), np.uint8)
    edge[:, side // 2 :] = 255
    assert spread(gaussian_blur(edge, 3, np.random.default_rng(0))) == pytest.approx(sigma, abs=0.12)


def test_defocus_is_a_disc_with_a_radius_in_px() -> None:
    image = np.zeros((224, 224, 1), np.uint8)
    image[100:124, 100:124] = 255
    blurred = defocus(image, 5, np.random.default_rng(0))
    reached = np.flatnonzero(blurred.max(axis=(0, 2)))
    assert abs(reached[0] - 90) <= 1 and abs(reached[-1] - 133) <= 1


def test_motion_blurs_along_a_line_and_moves_nothing() -> None:
    lit = point(225).astype(np.uint8)
    lit[110:115, 110:115] = 255
    moved = motion(lit, 3, np.random.default_rng(1)).astype(float)[:, :, 0]
    rows, columns = np.indices(moved.shape)
    centre = np.average(rows, weights=moved), np.average(columns, weights=moved)
    assert centre == pytest.approx((112, 112), abs=0.5)
    axes = np.linalg.eigvalsh(np.cov(rows.ravel(), columns.ravel(), aweights=moved.ravel()))
    assert axes[1] > 4 * axes[0]


def test_a_grey_picture_stays_grey_in_three_channels() -> None:
    grey = np.repeat(pictures(64, 64, 1)[0], 3, axis=2)
    for kind in ("overexposure", "underexposure", "contrast", "defocus", "motion", "lens-dirt", "pixelate"):
        out = corrupt(grey, kind, 4, np.random.default_rng(0)).astype(int)
        assert np.ptp(out, axis=2).max() == 0, kind


def test_jpeg_keeps_the_order_of_the_colours() -> None:
    red = np.zeros((32, 32, 3), np.uint8)
    red[:, :, 0] = 250
    out = corrupt(red, "jpeg", 1, np.random.default_rng(0))
    assert out[..., 0].mean() > 230 and out[..., 2].mean() < 20


@pytest.mark.parametrize(
    ("image", "kind", "severity", "message"),
    [
        (np.zeros((8, 8, 3), np.uint8), "rust", 1, "no corruption 'rust'; known are gaussian-noise"),
        (np.zeros((8, 8, 3), np.uint8), "jpeg", 0, "severity must be 1 to 5, got 0"),
        (np.zeros((8, 8, 3), np.uint8), "jpeg", 6, "severity must be 1 to 5, got 6"),
        (np.zeros((8, 8, 3), np.float32), "jpeg", 1, "must be uint8"),
        (np.zeros((8, 8), np.uint8), "jpeg", 1, "must be uint8"),
        (np.zeros((8, 8, 4), np.uint8), "jpeg", 1, "must be uint8"),
        (np.zeros((0, 8, 3), np.uint8), "jpeg", 1, "must be uint8"),
    ],
)
def test_what_cannot_be_corrupted_is_refused(image: Image, kind: str, severity: int, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        corrupt(image, kind, severity, np.random.default_rng(0))
