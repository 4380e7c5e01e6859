"""What is hidden is gone, and nothing else is."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.samples.settings import Zone
from device_agent.samples.zones import hide

PARTS = st.floats(0, 1)


@st.composite
def zones(draw):
    x, y = draw(st.floats(0, 0.95)), draw(st.floats(0, 0.95))
    return Zone(x, y, draw(st.floats(0.01, 1 - x)), draw(st.floats(0.01, 1 - y)))


@settings(max_examples=100, deadline=None)
@given(zone=zones(), height=st.integers(1, 40), width=st.integers(1, 40), seed=st.integers(0, 9))
def test_of_a_blurred_zone_one_colour_is_left_and_the_rest_is_untouched(zone, height, width, seed):
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    before = image.copy()
    out = hide(image, [zone])
    rows, columns = np.arange(height)[:, None], np.arange(width)[None]
    touched = (rows + 1 > zone.y * height) & (rows < (zone.y + zone.height) * height)
    touched = touched & (columns + 1 > zone.x * width) & (columns < (zone.x + zone.width) * width)
    assert np.unique(out[touched], axis=0).shape[0] <= 1
    assert np.array_equal(image, before), "the frame of the loop is not changed"
    beyond = (rows + 2 > zone.y * height) & (rows - 1 < (zone.y + zone.height) * height)
    beyond = beyond & (columns + 2 > zone.x * width) & (columns - 1 < (zone.x + zone.width) * width)
    assert np.array_equal(out[~beyond], before[~beyond])


def test_two_frames_that_differ_within_a_zone_only_in_its_pattern_look_the_same():
    one = np.full((16, 16, 3), 100, np.uint8)
    other = one.copy()
    one[2:6, 2:6], other[2:6, 2:6] = 50, 50
    one[2:4, 2:6], other[2:6, 2:4] = 250, 250
    zone = Zone(2 / 16, 2 / 16, 4 / 16, 4 / 16)
    assert not np.array_equal(one, other)
    assert np.array_equal(hide(one, [zone]), hide(other, [zone]))


def test_a_crop_shows_nothing_from_outside_of_it():
    image = np.zeros((10, 10, 3), np.uint8)
    image[3:7, 3:7] = 255
    out = hide(image, [], Zone(0.25, 0.25, 0.5, 0.5))
    assert out.shape == (4, 4, 3) and (out == 255).all()


def test_a_read_only_frame_can_be_hidden():
    image = np.frombuffer(bytes(range(48)), np.uint8).reshape(4, 4, 3)
    assert hide(image, [Zone(0, 0, 1, 1)]).std(axis=(0, 1)).max() == 0
