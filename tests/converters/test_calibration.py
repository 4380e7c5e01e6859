"""Calibration images: every class takes part, the same seed draws the same."""

from __future__ import annotations

import numpy as np
import pytest

from converters.calibration import draw, tensors
from device_agent.contract.errors import BadInput
from device_agent.contract.manifest import InputSpec


def test_rare_classes_are_drawn_to_the_last_image() -> None:
    labels = np.repeat([0, 1, 2], [990, 8, 2])
    counts = np.bincount(labels[draw(labels, 100)])
    assert counts.tolist() == [90, 8, 2]


def test_slices_take_turns_within_each_class() -> None:
    labels = np.repeat([0, 1], [950, 50])
    slices = np.where(np.arange(1000) % 50 < 2, "night", "day")
    rows = draw(labels, 60, slices=slices)
    counts = {(c, s): int(((labels[rows] == c) & (slices[rows] == s)).sum()) for c in (0, 1) for s in ("day", "night")}
    assert counts == {(0, "day"): 15, (0, "night"): 15, (1, "day"): 28, (1, "night"): 2}
    assert (slices[draw(labels, 60)] == "night").sum() < 10, "without slices it is left to chance"


def test_few_images_are_all_drawn_once() -> None:
    assert draw(np.array([0, 1, 1]), 100).tolist() == [0, 1, 2]


def test_seed_decides() -> None:
    labels = np.zeros(500, int)
    assert np.array_equal(draw(labels, 50, seed=1), draw(labels, 50, seed=1))
    assert not np.array_equal(draw(labels, 50, seed=1), draw(labels, 50, seed=2))


def test_no_images_is_refused() -> None:
    with pytest.raises(BadInput, match="no training images"):
        draw(np.array([], int))


def test_tensors_are_what_the_device_makes_of_an_image() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 9, 3), np.uint8)
    spec = InputSpec(height=8, width=9)
    last = list(tensors(images, spec))
    first = list(tensors(images, spec, channels_first=True))
    assert [t.shape for t in last] == [(1, 8, 9, 3)] * 2
    assert [t.shape for t in first] == [(1, 3, 8, 9)] * 2
    np.testing.assert_allclose(last[0][0], images[0] / 127.5 - 1, atol=1e-6)
    assert np.array_equal(first[1][0].transpose(1, 2, 0), last[1][0])
