"""Each figure moves with what it is named after, and with little else."""

from __future__ import annotations

import numpy as np

from device_agent.frames.surface import draw, lens_dirt, soil
from device_agent.quality import measure


def test_a_dirty_lens_is_less_sharp() -> None:
    rng = np.random.default_rng(0)
    clean = [draw(rng, "good") for _ in range(8)]
    dirt = lens_dirt(np.random.default_rng(1))
    before = np.mean([measure(image).sharpness for image in clean])
    after = np.mean([measure(soil(image, dirt, 0.7)).sharpness for image in clean])
    assert after < 0.7 * before


def test_brightness_follows_the_light() -> None:
    levels = [measure(draw(np.random.default_rng(0), "good", light=light)).brightness for light in (0.5, 1.0)]
    assert 0.4 < levels[0] / levels[1] < 0.6


def test_clipping_counts_black_and_white() -> None:
    image = np.full((64, 64, 1), 128, np.uint8)
    image[:16], image[-16:] = 0, 255
    assert measure(image).clipped == 0.5
    assert measure(np.full((1, 1, 3), 9, np.uint8)).sharpness == 0.0


def test_a_large_frame_costs_a_thumbnail() -> None:
    large = np.kron(np.arange(256, dtype=np.uint8).reshape(16, 16), np.ones((40, 40), np.uint8))[:, :, None]
    assert abs(measure(large).brightness - 127.5) < 2
