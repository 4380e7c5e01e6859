"""Variations keep shape and meaning, depend on the generator alone, and leave the source as it is."""

from __future__ import annotations

import numpy as np
import pytest

from toolkit.training.augment import FLIPS, Flips, flip, vary


def _images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (16, 12, 12, 3), np.uint8)


def test_flips_are_four_and_undo_themselves() -> None:
    images = _images()
    assert len({flip(images, *signs).tobytes() for signs in FLIPS["both"]}) == 4
    assert all(np.array_equal(flip(flip(images, *signs), *signs), images) for signs in FLIPS["both"])


@pytest.mark.parametrize(("flips", "corners"), [("none", 1), ("left-right", 2), ("up-down", 2), ("both", 4)])
def test_only_mirror_images_that_were_allowed_appear(flips: Flips, corners: int) -> None:
    images = np.full((64, 9, 9, 3), 0, np.uint8)
    images[:, 1, 2] = 255
    varied = vary(images, np.random.default_rng(0), flips=flips, shift=0, light=0)
    upper, left = varied[:, :4].any(axis=(1, 2, 3)), varied[:, :, :4].any(axis=(1, 2, 3))
    assert len(set(zip(upper.tolist(), left.tolist(), strict=True))) == corners
    assert upper.all() == (flips in ("none", "left-right")) and left.all() == (flips in ("none", "up-down"))


def test_same_generator_same_images_and_the_source_is_untouched() -> None:
    images = _images()
    before = images.copy()
    one, two, other = (vary(images, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, two) and not np.array_equal(one, other)
    assert np.array_equal(images, before)
    assert one.shape == images.shape and one.dtype == np.uint8


def test_light_moves_the_mean_within_its_limit() -> None:
    grey = np.full((400, 4, 4, 3), 128, np.uint8)
    means = vary(grey, np.random.default_rng(0), shift=0, light=0.1).mean(axis=(1, 2, 3))
    assert means.std() > 3
    assert np.abs(means - 128).max() <= 0.1 * 128 + 1


def test_shift_stays_within_its_reach() -> None:
    image = np.zeros((1, 40, 40, 3), np.uint8)
    image[0, 20, 20] = 255
    for seed in range(40):
        rows, columns = np.nonzero(vary(image, np.random.default_rng(seed), shift=0.05, light=0)[0, :, :, 0])
        assert len(rows) == 1, "the mark is still there, once"
        assert all(min(abs(at - 20), abs(39 - at - 20)) <= 2 for at in (rows[0], columns[0]))


def test_shift_reaches_its_limit_on_every_side_and_no_further() -> None:
    image = np.zeros((1, 40, 40, 3), np.uint8)
    image[0, 20, 20] = 255
    varied = [vary(image, np.random.default_rng(seed), flips="none", shift=0.05, light=0)[0] for seed in range(80)]
    places = [np.argwhere(one[:, :, 0])[0] - 20 for one in varied]
    assert np.min(places, axis=0).tolist() == [-2, -2] and np.max(places, axis=0).tolist() == [2, 2]
