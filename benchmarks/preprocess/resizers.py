"""How else a picture could have been resized: other libraries and modes, each (h, w, 3) uint8 RGB to another size."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from device_agent.preprocess import resize_numpy

Image = NDArray[np.uint8]
Size = tuple[int, int]  # height, width
Resize = Callable[[Image, Size], Image]

OPENCV = {
    "INTER_AREA": cv2.INTER_AREA,
    "INTER_LINEAR": cv2.INTER_LINEAR,
    "INTER_CUBIC": cv2.INTER_CUBIC,
    "INTER_LANCZOS4": cv2.INTER_LANCZOS4,
    "INTER_NEAREST": cv2.INTER_NEAREST,
}
PILLOW = {
    "BOX": Pillow.Resampling.BOX,
    "BILINEAR (antialiased)": Pillow.Resampling.BILINEAR,
    "BICUBIC (antialiased)": Pillow.Resampling.BICUBIC,
    "LANCZOS (antialiased)": Pillow.Resampling.LANCZOS,
    "NEAREST": Pillow.Resampling.NEAREST,
}


def shrinks(image: Image, size: Size) -> bool:
    """Whether lineside's definition takes the area here, and bilinear otherwise."""
    return image.shape[0] >= size[0] and image.shape[1] >= size[1]


def without_opencv(image: Image, size: Size) -> Image:
    """lineside's own form where OpenCV is not installed."""
    return resize_numpy(image, size, area=shrinks(image, size))


def truncated(image: Image, size: Size) -> Image:
    """lineside's filter, the fraction cut off instead of rounded."""
    wide = cv2.resize(
        image.astype(np.float32),
        size[::-1],
        interpolation=cv2.INTER_AREA if shrinks(image, size) else cv2.INTER_LINEAR,
    )
    return np.asarray(np.clip(wide + 1e-3, 0, 255), np.uint8)


def by_opencv(mode: int) -> Resize:
    """cv2.resize in this mode."""
    return lambda image, size: np.asarray(cv2.resize(image, size[::-1], interpolation=mode), np.uint8)


def by_pillow(mode: Pillow.Resampling) -> Resize:
    """Image.resize in this mode."""
    return lambda image, size: np.asarray(Pillow.fromarray(image).resize(size[::-1], mode), np.uint8)


def by_tensorflow(method: str, *, antialias: bool = False) -> Resize:
    """tf.image.resize, rounded half to even (imports TensorFlow)."""
    import tensorflow as tf

    def resize(image: Image, size: Size) -> Image:
        wide = tf.image.resize(image, size, method=method, antialias=antialias).numpy()
        return np.asarray(np.clip(np.rint(wide), 0, 255), np.uint8)

    return resize


def by_tensorflow_1(image: Image, size: Size) -> Image:
    """resize_bilinear of TensorFlow 1, whose pixel centres lie on whole numbers."""
    import tensorflow as tf

    wide = tf.compat.v1.image.resize_bilinear(image[None], size, align_corners=False, half_pixel_centers=False)
    return np.asarray(np.clip(np.rint(wide[0].numpy()), 0, 255), np.uint8)


def resizers() -> dict[tuple[str, str], Resize]:
    """Every other way by library and mode (imports TensorFlow)."""
    found: dict[tuple[str, str], Resize] = {
        ("lineside", "without OpenCV"): without_opencv,
        ("lineside", "fraction cut off"): truncated,
    }
    found |= {("OpenCV", name): by_opencv(mode) for name, mode in OPENCV.items()}
    found |= {("Pillow", name): by_pillow(mode) for name, mode in PILLOW.items()}
    found |= {("TensorFlow", method): by_tensorflow(method) for method in ("area", "bilinear", "bicubic", "nearest")}
    found["TensorFlow", "bilinear, antialias"] = by_tensorflow("bilinear", antialias=True)
    found["TensorFlow 1", "resize_bilinear"] = by_tensorflow_1
    return found
