"""Preprocessing: numpy and OpenCV are the same definition; bad frames are refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from device_agent.contract.manifest import InputSpec
from device_agent.preprocess import fit, resize_numpy, table

sides = st.integers(1, 150)
targets = st.integers(8, 150)


def frame(seed: int, height: int, width: int, colour: bool) -> NDArray[np.uint8]:
    """Noise with hard edges, which no two resize filters treat alike."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3) if colour else (height, width), np.uint8)
    image[: height // 2, : width // 3] = rng.integers(0, 2) * 255
    return image


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32 - 1), sides, sides, targets, targets, st.booleans())
def test_numpy_and_opencv_agree_within_one_step_bilinear(
    seed: int, height: int, width: int, to_height: int, to_width: int, colour: bool
) -> None:
    cv2 = pytest.importorskip("cv2")
    image = frame(seed, height, width, colour)
    ours = resize_numpy(image, (to_height, to_width), area=False)
    theirs = cv2.resize(image, (to_width, to_height), interpolation=cv2.INTER_LINEAR)
    assert ours.shape == theirs.shape
    assert np.abs(ours.astype(int) - theirs).max() <= 1


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32 - 1), targets, targets, st.floats(0.05, 1), st.floats(0.05, 1), st.booleans())
def test_numpy_and_opencv_agree_within_one_step_area(
    seed: int, height: int, width: int, shrink_y: float, shrink_x: float, colour: bool
) -> None:
    cv2 = pytest.importorskip("cv2")
    image = frame(seed, height, width, colour)
    to = max(1, int(height * shrink_y)), max(1, int(width * shrink_x))
    ours = resize_numpy(image, to, area=True)
    theirs = cv2.resize(image, to[::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(ours.astype(int) - theirs).max() <= 1


def test_area_and_bilinear_differ_so_that_the_agreement_above_means_something() -> None:
    image = frame(0, 120, 120, True)
    area, bilinear = (resize_numpy(image, (31, 37), area=area).astype(int) for area in (True, False))
    assert area.std() > 10
    assert np.abs(area - bilinear).max() > 20


@pytest.mark.parametrize("shape", [(40, 60, 3), (40, 60)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("order", ["rgb", "bgr", "grey"])
@pytest.mark.parametrize("crop", ["none", "centre"])
def test_fit_gives_the_shape_of_the_spec(shape: tuple[int, ...], channels: int, order: str, crop: str) -> None:
    spec = InputSpec(height=24, width=32, channels=channels, colour_order=order, crop=crop)  # type: ignore[arg-type]
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    fitted = fit(image, spec)
    assert fitted.shape == (24, 32, channels) and fitted.dtype == np.uint8 and fitted.flags.c_contiguous
    assert fitted.std() > 5


def test_bgr_is_rgb_reversed_and_grey_is_luminance() -> None:
    image = np.random.default_rng(1).integers(0, 256, (24, 24, 3), np.uint8)
    rgb = fit(image, InputSpec(height=24, width=24))
    assert np.array_equal(rgb, image)
    assert np.array_equal(fit(image, InputSpec(height=24, width=24, colour_order="bgr")), image[:, :, ::-1])
    red = np.zeros((24, 24, 3), np.uint8)
    red[:, :, 0] = 200
    assert int(fit(red, InputSpec(height=24, width=24, channels=1, colour_order="grey"))[0, 0, 0]) == 60


def test_the_centre_crop_takes_the_middle_square() -> None:
    image = np.zeros((10, 30, 3), np.uint8)
    image[:, 10:20] = 255
    assert (fit(image, InputSpec(height=10, width=10, crop="centre")) == 255).all()


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 1), np.uint8),
        np.zeros((4,), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 0), np.uint8),
    ],
)
def test_what_is_no_frame_is_refused(bad: NDArray[np.uint8]) -> None:
    with pytest.raises(BadInput, match="frame"):
        fit(bad, InputSpec(height=8, width=8))


@pytest.mark.parametrize(
    ("scale", "zero_point", "dtype"),
    [(1 / 127.5, -1, "int8"), (1 / 127.5, 0, "int8"), (1 / 128, 0, "int8"), (1 / 127.5, 127, "uint8")],
)
def test_every_byte_keeps_a_code_where_there_are_as_many(scale: float, zero_point: int, dtype: str) -> None:
    spec = InputSpec(height=8, width=8)
    rounded = np.clip(np.rint(table(spec) / np.float32(scale)) + zero_point, *_ends(dtype))
    assert len(np.unique(rounded)) < 256, "plain rounding makes one of some"
    codes = table(spec, scale=scale, zero_point=zero_point, dtype=dtype)
    np.testing.assert_array_equal(codes, np.arange(256) + _ends(dtype)[0])


@pytest.mark.parametrize("scale", [1 / 120, 1 / 64, 2.1 / 255])
def test_other_scales_are_rounded_to(scale: float) -> None:
    spec = InputSpec(height=8, width=8)
    codes = table(spec, scale=scale, dtype="int8")
    np.testing.assert_array_equal(codes, np.clip(np.rint(table(spec) / np.float32(scale)), -128, 127))


def _ends(dtype: str) -> tuple[int, int]:
    return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)


def test_the_table_quantizes_half_to_even_and_clips() -> None:
    spec = InputSpec(height=8, width=8)
    real = table(spec)
    assert real.shape == (256,) and real.dtype == np.float32 and real[0] == -1 and real[255] == 1
    assert (np.diff(real) > 0).all()
    levels = table(spec, scale=1 / 128, zero_point=0, dtype="int8")
    assert levels.dtype == np.int8 and levels[0] == -128 and levels[255] == 127
    raw = InputSpec(height=8, width=8, scale=1.0, offset=0.0)
    assert table(raw, scale=2.0, zero_point=0, dtype="uint8")[[1, 3, 5, 7]].tolist() == [0, 2, 2, 4]
