"""The comparison of preprocessing: its two measures, and that what is called the same is the same."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("cv2")
pytest.importorskip("PIL")
BENCHMARK = "preprocess"


def test_steps_are_counted_over_all_values(script: ModuleType) -> None:
    black, other = np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2, 3), np.uint8)
    other[0, 0, 0] = 12
    assert script.steps([black, black], [black, other]) == (0.5, 12)


def test_an_effect_is_a_share_of_the_spread_and_a_shift_is_none(script: ModuleType) -> None:
    logits = np.array([[2.0, 0.0], [0.0, 2.0]])
    assert script.effect(logits, logits + 5) == (0, 0, 0)
    assert script.effect(logits, logits[::-1]) == (2, 2, 2)


def test_every_way_gives_the_size_and_rounding_is_a_step(script: ModuleType) -> None:
    import resizers

    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    for size in ((20, 31), (80, 90)):
        ours = script.fit(image, size)
        assert ours.std() > 20
        for way in (resizers.without_opencv, resizers.truncated):
            assert script.steps([ours], [way(image, size)]).largest <= 1
        others = [resizers.by_opencv(mode) for mode in resizers.OPENCV.values()]
        others += [resizers.by_pillow(mode) for mode in resizers.PILLOW.values()]
        assert all(way(image, size).shape == ours.shape for way in others)
