"""Drawn surfaces: repeatable, in range, different where they have to be."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from device_agent.frames.surface import FINISHES, KINDS, draw, lens_dirt, make_part, photograph, soil


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("product", range(len(FINISHES)))
@pytest.mark.parametrize("size", [32, 96, 200])
def test_a_picture_is_bytes_of_the_asked_size_with_light_and_shade(kind: str, product: int, size: int) -> None:
    image = draw(rng(1), kind, size=size, product=product)
    assert image.shape == (size, size, 3) and image.dtype == np.uint8
    assert 60 < image.mean() < 200
    assert image.std() > 4
    assert (image == 255).mean() < 0.05 and (image == 0).mean() < 0.05


def test_the_same_generator_gives_the_same_picture_and_another_one_another() -> None:
    assert np.array_equal(draw(rng(3), "crack"), draw(rng(3), "crack"))
    assert not np.array_equal(draw(rng(3), "crack"), draw(rng(4), "crack"))


def marked_share(kind: str, seed: int) -> float:
    """How much of a part a defect changes visibly, against the same part drawn good."""
    change = np.abs(make_part(rng(seed), kind) - make_part(rng(seed), "good")).mean(axis=2)
    return float((change > 0.03).mean())


@pytest.mark.parametrize("kind", KINDS[1:])
def test_every_defect_leaves_a_visible_mark_on_a_part_of_the_picture_only(kind: str) -> None:
    shares = np.array([marked_share(kind, seed) for seed in range(60)])
    assert shares.min() > 0.0005
    assert np.median(shares) < 0.35
    assert shares.max() > 3 * shares.min(), "strong and faint ones occur"


def test_photographs_of_one_part_resemble_each_other_more_than_other_parts() -> None:
    steps = rng(5)
    part, other = make_part(steps, "stain"), make_part(steps, "stain")
    first, second = (photograph(rng(seed), part).astype(float) for seed in (1, 2))
    assert not np.array_equal(first, second)

    def best_match(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
        middle = a[16:80, 16:80, 1]
        shifts = [(dy, dx) for dy in range(8, 25) for dx in range(8, 25)]
        return max(float(np.corrcoef(middle.ravel(), b[y : y + 64, x : x + 64, 1].ravel())[0, 1]) for y, x in shifts)

    assert best_match(first, second) > 0.9
    assert best_match(first, photograph(rng(3), other).astype(float)) < 0.7


def test_light_and_camera_change_the_level() -> None:
    part = make_part(rng(0), "good")
    dim, bright = (photograph(rng(1), part, light=light).mean() for light in (0.8, 1.2))
    assert 1.3 < bright / dim < 1.6
    assert not np.array_equal(photograph(rng(1), part, camera=0), photograph(rng(1), part, camera=1))


def brushed(image: NDArray[np.uint8]) -> float:
    """Variation across the brushing over that along it."""
    grey = image.mean(axis=2)
    return float(np.abs(np.diff(grey, axis=0)).mean() / np.abs(np.diff(grey, axis=1)).mean())


def test_products_differ_in_direction_and_tint() -> None:
    steel, bronze = (np.stack([draw(rng(s), "good", product=p) for s in range(20)]) for p in (0, 1))
    warmth = [float((stack[..., 0].astype(float) - stack[..., 2]).mean()) for stack in (steel, bronze)]
    assert warmth[0] < 0 < warmth[1]
    assert np.mean([brushed(image) for image in steel]) > 1.5
    assert np.mean([brushed(image) for image in bronze]) < 1.1


def test_dirt_stays_in_place_and_takes_contrast_with_severity() -> None:
    dirt = lens_dirt(rng(7))
    assert dirt.dtype == np.float32 and dirt.min() >= 0 and dirt.max() <= 1
    assert dirt.max() > 0.4 and dirt.min() < 0.05
    assert np.array_equal(dirt, lens_dirt(rng(7)))
    image = draw(rng(8), "good")
    before = image.copy()
    contrasts = [soil(image, dirt, severity).std() for severity in (0, 0.25, 0.5, 0.75, 1)]
    assert np.all(np.diff(contrasts) < 0), contrasts
    assert np.array_equal(soil(image, dirt, 0), image)
    assert np.array_equal(image, before), "the clean frame is left alone"


def test_a_soiled_frame_need_not_be_square() -> None:
    image = np.hstack([draw(rng(0), "good"), draw(rng(1), "good")])
    assert soil(image, np.hstack([lens_dirt(rng(2))] * 2), 0.5).shape == (96, 192, 3)


@pytest.mark.parametrize(("kind", "product"), [("rust", 0), ("good", -1), ("good", len(FINISHES))])
def test_unknown_kinds_and_products_are_refused(kind: str, product: int) -> None:
    with pytest.raises(BadInput, match=r"kind must be one of|product must be 0 to"):
        draw(rng(0), kind, product=product)
