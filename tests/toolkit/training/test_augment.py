"""Variations keep shape and meaning, hang on seed, row and view alone, and leave the source as it is."""

from __future__ import annotations

import numpy as np
import pytest

from device_agent.contract.errors import BadInput
from toolkit.training.augment import FLIPS, OPERATIONS, Flips, Operation, Policy, flip, vary

STILL = Policy(flips="none", shift=0, light=0)


def _images(count: int = 16, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 12, 12, channels), np.uint8)


def _vary(images: np.ndarray, policy: Policy, *, seed: int = 0, view: int = 1) -> np.ndarray:
    return vary(images, np.arange(len(images)), seed=seed, view=view, policy=policy)


def _only(name: Operation, strength: int = 10) -> Policy:
    return Policy(flips="none", shift=0, light=0, strength=strength, without=tuple(set(OPERATIONS) - {name}))


def test_flips_are_four_and_undo_themselves() -> None:
    images = _images()
    assert len({flip(images, *signs).tobytes() for signs in FLIPS["both"]}) == 4
    assert all(np.array_equal(flip(flip(images, *signs), *signs), images) for signs in FLIPS["both"])


@pytest.mark.parametrize(("flips", "corners"), [("none", 1), ("left-right", 2), ("up-down", 2), ("both", 4)])
def test_only_mirror_images_that_were_allowed_appear(flips: Flips, corners: int) -> None:
    images = np.full((64, 9, 9, 3), 0, np.uint8)
    images[:, 1, 2] = 255
    varied = _vary(images, Policy(flips=flips, shift=0, light=0))
    assert (varied == 255).sum() == 64 * 3, "nothing but the mark moves, and it stays whole"
    upper, left = varied[:, :4].any(axis=(1, 2, 3)), varied[:, :, :4].any(axis=(1, 2, 3))
    assert len(set(zip(upper.tolist(), left.tolist(), strict=True))) == corners
    assert upper.all() == (flips in ("none", "left-right")) and left.all() == (flips in ("none", "up-down"))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("policy", [Policy(), Policy(strength=10)], ids=["plain", "strong"])
def test_an_images_variation_does_not_hang_on_its_neighbours(policy: Policy, channels: int) -> None:
    images, rows = _images(64, channels), np.arange(64)
    whole = vary(images, rows, seed=3, view=5, policy=policy)
    some = np.random.default_rng(1).permutation(64)[:20]
    assert np.array_equal(vary(images[some], some, seed=3, view=5, policy=policy), whole[some])
    assert whole.shape == images.shape and whole.dtype == np.uint8


@pytest.mark.parametrize("policy", [Policy(), Policy(strength=10)], ids=["plain", "strong"])
def test_seed_and_view_and_row_each_make_another_variation(policy: Policy) -> None:
    images = np.repeat(_images(1), 40, axis=0)
    before = images.copy()
    one = _vary(images, policy)
    for other in (_vary(images, policy, seed=1), _vary(images, policy, view=2)):
        assert np.mean((one != other).any(axis=(1, 2, 3))) > 0.9
    assert len({image.tobytes() for image in one}) > 30
    assert np.array_equal(images, before)


def test_draws_are_spread_evenly_and_do_not_hang_together() -> None:
    grey = np.full((4000, 4, 4, 3), 128, np.uint8)
    one = _vary(grey, Policy(light=0.5)).mean(axis=(1, 2, 3)) - 128
    two = _vary(grey, Policy(light=0.5), view=2).mean(axis=(1, 2, 3)) - 128
    assert abs(one.mean()) < 2.5 and one.std() == pytest.approx(64 / np.sqrt(3), rel=0.05)
    assert abs(np.corrcoef(one, two)[0, 1]) < 0.06 and abs(np.corrcoef(one[1:], one[:-1])[0, 1]) < 0.06


def test_light_moves_the_mean_within_its_limit() -> None:
    grey = np.full((400, 4, 4, 3), 128, np.uint8)
    means = _vary(grey, Policy(shift=0, light=0.1)).mean(axis=(1, 2, 3))
    assert means.std() > 3
    assert np.abs(means - 128).max() <= 0.1 * 128 + 1


def test_shift_reaches_its_limit_on_every_side_and_no_further() -> None:
    images = np.zeros((300, 40, 40, 3), np.uint8)
    images[:, 20, 20] = 255
    varied = _vary(images, Policy(flips="none", shift=0.05, light=0))
    places = np.argwhere(varied[..., 0] == 255)[:, 1:] - 20
    assert len(places) == 300, "the mark is still there, once"
    assert places.min(axis=0).tolist() == [-2, -2] and places.max(axis=0).tolist() == [2, 2]
    assert len(np.unique(places, axis=0)) == 25


def test_the_same_view_at_another_size_is_the_same_picture() -> None:
    cv2 = pytest.importorskip("cv2")
    rng = np.random.default_rng(0)
    coarse = rng.integers(40, 216, (24, 6, 6, 3), np.uint8)
    large = np.stack([cv2.resize(image, (96, 96), interpolation=cv2.INTER_CUBIC) for image in coarse])
    small = np.stack([cv2.resize(image, (48, 48), interpolation=cv2.INTER_AREA) for image in large])
    kept: tuple[Operation, ...] = ("noise", "jpeg")
    policy = Policy(strength=10, without=kept)
    wide, fine = _vary(large, policy), _vary(small, policy)
    shrunk = np.stack([cv2.resize(image, (48, 48), interpolation=cv2.INTER_AREA) for image in wide])
    apart = np.abs(shrunk.astype(float) - fine).mean()
    changed = np.abs(small.astype(float) - fine).mean()
    assert changed > 25 and apart < changed / 5


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_changes_pictures_and_more_with_strength(name: Operation) -> None:
    cv2 = pytest.importorskip("cv2")
    coarse = np.random.default_rng(0).integers(60, 200, (12, 12, 3), np.uint8)
    picture = cv2.resize(coarse, (64, 64), interpolation=cv2.INTER_CUBIC)
    images = np.repeat(picture[None], 30, axis=0)
    weak, strong = (np.abs(_vary(images, _only(name, strength)).astype(float) - images).mean() for strength in (5, 10))
    assert strong > 1.2 * weak > 0


def test_rotation_keeps_the_centre_and_stays_small() -> None:
    images = np.zeros((200, 65, 65, 1), np.uint8)
    images[:, 32, 8:57] = 255
    varied = _vary(images, _only("rotation"))[..., 0]
    assert (varied[:, 32, 32] > 100).all()
    right = [int(column.argmax()) - 32 for column in varied[:, :, 54]]
    assert 1 <= max(map(abs, right)) <= round(22 * np.tan(np.deg2rad(8))) + 1
    assert min(right) < 0 < max(right)


def test_an_operation_that_is_switched_off_never_happens() -> None:
    images = np.full((300, 16, 16, 3), 100, np.uint8)
    lights: tuple[Operation, ...] = ("brightness", "contrast", "gamma", "lens-dirt", "noise", "jpeg")
    varied = _vary(images, Policy(light=0, strength=10, without=lights))
    assert np.array_equal(varied, images), "moves and blur do nothing to an even picture"
    assert not np.array_equal(_vary(images, Policy(light=0, strength=10, without=lights[1:])), images)


def test_nothing_happens_where_nothing_is_allowed() -> None:
    assert np.array_equal(_vary(_images(), STILL), _images())


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        (Policy(strength=11), "0 to 10, got 11"),
        (Policy(strength=1, without=("posterize",)), "no operation 'posterize'"),  # type: ignore[arg-type]
        (Policy(strength=1, without=tuple(OPERATIONS)), "every operation is left out"),
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused(policy: Policy, reason: str) -> None:
    with pytest.raises(BadInput, match=reason):
        policy.check()
