"""Mixed images and mixed targets agree on how much of each image there is."""

from __future__ import annotations

import numpy as np
import pytest

from toolkit.training.mixing import draw_mix

EYE = np.eye(64, dtype=np.float32)


def _flat(height: int = 20, width: int = 30) -> np.ndarray:
    """64 images, each of one grey level of its own."""
    return np.broadcast_to(np.arange(64, dtype=np.uint8)[:, None, None, None] * 4, (64, height, width, 3)).copy()


def test_nothing_is_mixed_where_both_are_off() -> None:
    assert draw_mix(np.random.default_rng(0), 64, 0.0, 0.0, 20, 30) is None


def test_mixup_blends_light_and_targets_by_the_same_share() -> None:
    images = _flat()
    mix = draw_mix(np.random.default_rng(0), 64, 0.4, 0.0, 20, 30)
    assert mix is not None and mix.boxes is None
    levels = mix.targets(EYE) @ (np.arange(64) * 4.0)
    mixed = mix.images(images)
    assert mixed.dtype == np.uint8 and mixed.std() > 10
    assert np.abs(mixed - levels[:, None, None, None]).max() <= 0.51
    assert np.ptp(mix.share) > 0.9 and np.mean(mix.partner != np.arange(64)) > 0.9


def test_cutmix_takes_a_box_whose_area_is_the_partners_share() -> None:
    images = _flat()
    mix = draw_mix(np.random.default_rng(0), 64, 0.0, 1.0, 20, 30)
    assert mix is not None and mix.boxes is not None
    mixed = mix.images(images)
    for row in range(64):
        if mix.partner[row] == row:
            continue
        own = np.mean(mixed[row, :, :, 0] == images[row, 0, 0, 0])
        assert own == pytest.approx(mix.share[row], abs=1e-6)
        assert mix.targets(EYE)[row, row] == pytest.approx(own, abs=1e-6)
    assert np.array_equal(images, _flat()), "the source is untouched"
    assert len(np.unique(mix.share)) > 30


def test_targets_stay_shares_of_one() -> None:
    for alphas in ((0.2, 0.0), (0.0, 1.0), (0.2, 1.0)):
        mix = draw_mix(np.random.default_rng(1), 64, *alphas, 20, 30)
        assert mix is not None
        assert np.allclose(mix.targets(EYE).sum(axis=1), 1) and mix.targets(EYE).min() >= 0


def test_with_both_a_coin_decides_and_the_generator_alone_decides_the_coin() -> None:
    kinds = [draw_mix(np.random.default_rng(seed), 4, 0.2, 1.0, 8, 8) for seed in range(40)]
    boxed = [mix is not None and mix.boxes is not None for mix in kinds]
    assert 8 < sum(boxed) < 32
    again = draw_mix(np.random.default_rng(3), 4, 0.2, 1.0, 8, 8)
    assert again is not None and kinds[3] is not None and np.array_equal(again.share, kinds[3].share)
