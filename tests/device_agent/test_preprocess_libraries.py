"""Preprocessing beside OpenCV, Pillow and TensorFlow: which of their modes are the same definition, and which are not.

Bounds are in steps of 255. A mode that differs is held to differ, so that it is known when a library changes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from device_agent.contract.manifest import InputSpec
from device_agent.preprocess import fit, resize_numpy

Image = NDArray[np.uint8]
SHRINK = [(64, 64), (51, 77), (33, 17), (100, 149)]
GROW = [(160, 200), (151, 333), (128, 256)]
FRAME = (120, 150)


@pytest.fixture(scope="module")
def frame() -> Image:
    """Colour noise with hard edges, 120 x 150: no two filters treat it alike."""
    rng = np.random.default_rng(3)
    image = rng.integers(0, 256, (*FRAME, 3), np.uint8)
    image[:60, :50] = (250, 20, 0)
    image[60:, 100:] = (0, 200, 255)
    return image


def ours(frame: Image, size: tuple[int, int], **settings: Any) -> NDArray[np.int64]:
    fitted = fit(frame, InputSpec(height=size[0], width=size[1], **settings)).astype(np.int64)
    assert fitted.std() > 20
    return fitted


def off(a: NDArray[Any], b: NDArray[Any]) -> int:
    assert a.shape == b.shape
    return int(np.abs(a.astype(np.int64) - b.astype(np.int64)).max())


def pillow(frame: Image, size: tuple[int, int], mode: str) -> Image:
    pil = pytest.importorskip("PIL.Image")
    return np.asarray(pil.fromarray(frame).resize(size[::-1], pil.Resampling[mode]))


@pytest.fixture(scope="module")
def tensorflow() -> Callable[..., NDArray[Any]]:
    """tf.image.resize with rounded values."""
    tf = pytest.importorskip("tensorflow")

    def resize(frame: Image, size: tuple[int, int], method: str, antialias: bool = False) -> NDArray[Any]:
        return np.rint(tf.image.resize(frame, size, method=method, antialias=antialias).numpy())

    return resize


@pytest.mark.parametrize("size", SHRINK)
def test_shrinking_is_opencv_area_and_no_other_mode(frame: Image, size: tuple[int, int]) -> None:
    cv2 = pytest.importorskip("cv2")
    modes = {name: getattr(cv2, name) for name in ("INTER_AREA", "INTER_LINEAR", "INTER_CUBIC", "INTER_NEAREST")}
    found = {name: off(ours(frame, size), cv2.resize(frame, size[::-1], interpolation=m)) for name, m in modes.items()}
    assert found.pop("INTER_AREA") <= 1
    assert min(found.values()) > 10


@pytest.mark.parametrize("size", GROW)
def test_growing_is_opencv_linear_and_no_other_mode(frame: Image, size: tuple[int, int]) -> None:
    cv2 = pytest.importorskip("cv2")
    modes = {name: getattr(cv2, name) for name in ("INTER_LINEAR", "INTER_AREA", "INTER_CUBIC", "INTER_NEAREST")}
    found = {name: off(ours(frame, size), cv2.resize(frame, size[::-1], interpolation=m)) for name, m in modes.items()}
    assert found.pop("INTER_LINEAR") <= 1
    assert min(found.values()) > 20


def test_pillow_box_is_the_same_where_the_factor_is_whole_and_only_there(frame: Image) -> None:
    assert off(ours(frame, (60, 75)), pillow(frame, (60, 75), "BOX")) <= 1
    assert off(ours(frame, (24, 50)), pillow(frame, (24, 50), "BOX")) <= 1
    assert off(ours(frame, (51, 77)), pillow(frame, (51, 77), "BOX")) > 20
    for size in SHRINK:  # Pillow widens these filters with the factor, which is smoother than the area
        assert off(ours(frame, size), pillow(frame, size, "BILINEAR")) > 10
        assert off(ours(frame, size), pillow(frame, size, "BICUBIC")) > 10


@pytest.mark.parametrize("size", GROW)
def test_pillow_bilinear_is_the_same_where_it_grows(frame: Image, size: tuple[int, int]) -> None:
    assert off(ours(frame, size), pillow(frame, size, "BILINEAR")) <= 1
    assert off(ours(frame, size), pillow(frame, size, "BICUBIC")) > 20


@pytest.mark.slow
@pytest.mark.parametrize("size", SHRINK)
def test_shrinking_is_tensorflow_area(
    frame: Image, size: tuple[int, int], tensorflow: Callable[..., NDArray[Any]]
) -> None:
    assert off(ours(frame, size), tensorflow(frame, size, "area")) <= 1
    assert off(ours(frame, size), tensorflow(frame, size, "bilinear")) > 10
    assert off(ours(frame, size), tensorflow(frame, size, "bilinear", True)) > 10
    # what TensorFlow calls antialias is Pillow's filter
    assert off(pillow(frame, size, "BILINEAR"), tensorflow(frame, size, "bilinear", True)) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("size", GROW)
def test_growing_is_tensorflow_bilinear(
    frame: Image, size: tuple[int, int], tensorflow: Callable[..., NDArray[Any]]
) -> None:
    assert off(ours(frame, size), tensorflow(frame, size, "bilinear")) <= 1
    assert off(ours(frame, size), tensorflow(frame, size, "bilinear", True)) <= 1
    assert off(ours(frame, size), tensorflow(frame, size, "bicubic")) > 20


@pytest.mark.slow
def test_the_bilinear_of_tensorflow_1_is_another(frame: Image) -> None:
    tf = pytest.importorskip("tensorflow")
    size = GROW[0]
    old = tf.compat.v1.image.resize_bilinear(frame[None], size, align_corners=False, half_pixel_centers=False)
    assert off(ours(frame, size), np.rint(old[0].numpy())) > 20


def test_the_form_without_opencv_rounds_halves_otherwise_where_both_sides_are_halved(frame: Image) -> None:
    pytest.importorskip("cv2")
    for size, same in (((60, 75), False), ((40, 50), True), ((51, 77), True)):
        difference = ours(frame, size) - resize_numpy(frame, size, area=True)
        assert difference.min() >= 0 and difference.max() <= 1
        assert (np.abs(difference).mean() < 0.01) == same


def test_where_one_side_shrinks_and_one_grows_it_is_bilinear_without_antialias(frame: Image) -> None:
    cv2 = pytest.importorskip("cv2")
    size = (60, 300)
    assert off(ours(frame, size), cv2.resize(frame, size[::-1], interpolation=cv2.INTER_LINEAR)) <= 1
    assert off(ours(frame, size), pillow(frame, size, "BILINEAR")) > 20


@pytest.mark.parametrize("size", [(64, 64), (160, 160)])
@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_crop_and_colour_order_are_those_of_a_hand_made_pipeline(
    frame: Image, size: tuple[int, int], order: str
) -> None:
    cv2 = pytest.importorskip("cv2")
    middle = frame[:, 15:135]  # 120 x 120 of 120 x 150
    resized = cv2.resize(middle, size[::-1], interpolation=cv2.INTER_AREA if size[0] < 120 else cv2.INTER_LINEAR)
    wanted = resized[:, :, ::-1] if order == "bgr" else resized
    assert off(ours(frame, size, crop="centre", colour_order=order), wanted) == 0
    other = resized if order == "bgr" else resized[:, :, ::-1]
    assert off(ours(frame, size, crop="centre", colour_order=order), other) > 100


@pytest.mark.parametrize(("height", "width", "first"), [(20, 27, 3), (20, 28, 4), (27, 20, 3)])
def test_an_odd_rest_of_the_crop_goes_to_the_far_side(height: int, width: int, first: int) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    wanted = image[:, first : first + 20] if width > height else image[first : first + 20]
    assert np.array_equal(fit(image, InputSpec(height=20, width=20, crop="centre")), wanted)


def test_grey_is_that_of_opencv_and_pillow(frame: Image) -> None:
    cv2, pil = pytest.importorskip("cv2"), pytest.importorskip("PIL.Image")
    grey = ours(frame, FRAME, channels=1, colour_order="grey")[:, :, 0]
    assert off(grey, cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)) <= 1
    assert off(grey, np.asarray(pil.fromarray(frame).convert("L"))) <= 1
    assert off(grey, frame.mean(axis=2).round()) > 20


@pytest.mark.slow
def test_grey_is_that_of_tensorflow(frame: Image) -> None:
    tf = pytest.importorskip("tensorflow")
    grey = ours(frame, FRAME, channels=1, colour_order="grey")[:, :, 0]
    assert off(grey, tf.image.rgb_to_grayscale(frame).numpy()[:, :, 0]) <= 1
