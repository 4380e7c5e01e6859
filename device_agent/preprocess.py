"""The one definition of preprocessing: training, conversion, evaluation and the device all call `fit`.

A frame becomes a uint8 image of the model's input size. What follows (value * scale + offset, quantization) is a table
of 256 values that each runtime builds from the InputSpec, see `table`.
"""

from __future__ import annotations

import functools
import importlib
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from device_agent.contract.manifest import InputSpec

Image = NDArray[np.uint8]
_GREY = np.array([0.299, 0.587, 0.114])


def fit(frame: Image, spec: InputSpec) -> Image:
    """The frame cropped, resized and in the colour order of `spec`: (height, width, channels) uint8, C-contiguous.

    Args:
        frame: (any, any, 3) uint8 RGB, or (any, any) uint8 grey.

    >>> fit(np.full((4, 8), 7, np.uint8), InputSpec(height=8, width=8)).shape
    (8, 8, 3)

    Raises:
        BadInput: not uint8, or another number of dimensions or channels.
    """
    if frame.dtype != np.uint8 or frame.ndim not in (2, 3) or (frame.ndim == 3 and frame.shape[2] != 3):
        raise BadInput(f"frame must be uint8 (h, w) or (h, w, 3), got {frame.dtype} {frame.shape}")
    if min(frame.shape[:2]) < 1:
        raise BadInput(f"frame is empty: {frame.shape}")
    if spec.crop == "centre":
        frame = _centre_square(frame)
    return np.ascontiguousarray(_colour(_resize(frame, spec), spec))


def table(spec: InputSpec, *, scale: float | None = None, zero_point: int = 0, dtype: str = "float32") -> NDArray[Any]:
    """What each of the 256 byte values becomes at the model's input: (256,) of `dtype`.

    With a quantization `scale` the real value is divided by it, rounded half to even, shifted by `zero_point` and
    clipped to the range of `dtype`, as TFLite's QUANTIZE does. A quantization that has a code for each byte, give or
    take that rounding, gets them all: rounded, some bytes would become one where two codes are equally near.

    >>> table(InputSpec(height=8, width=8))[[0, 255]].tolist()
    [-1.0, 1.0]
    >>> table(InputSpec(height=8, width=8), scale=1 / 128, dtype="int8")[[0, 200, 255]].tolist()
    [-128, 72, 127]
    """
    real = (np.arange(256, dtype=np.float64) * spec.scale + spec.offset).astype(np.float32)
    if scale is None:
        return real.astype(dtype)
    limits = np.iinfo(dtype)
    codes = np.clip(np.rint(real / np.float32(scale)) + zero_point, limits.min, limits.max)
    each = np.arange(256) + limits.min
    return np.asarray(each if np.abs(codes - each).max() <= 1 else codes, dtype)


def _centre_square(frame: Image) -> Image:
    height, width = frame.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return frame[top : top + side, left : left + side]


def _colour(image: Image, spec: InputSpec) -> Image:
    if spec.channels == 1:
        grey = image if image.ndim == 2 else np.rint(image @ _GREY).astype(np.uint8)
        return grey[:, :, None]
    if image.ndim == 2:
        return np.repeat(image[:, :, None], 3, axis=2)
    return image[:, :, ::-1] if spec.colour_order == "bgr" else image


@functools.cache
def _opencv() -> ModuleType | None:
    """OpenCV, imported when a frame is first resized: only the capture process of the agent ever does."""
    try:
        return importlib.import_module("cv2")
    except ImportError:  # the `camera` extra is not installed: the numpy form of the same definition serves
        return None


def _resize(frame: Image, spec: InputSpec) -> Image:
    (height, width), size = frame.shape[:2], (spec.height, spec.width)
    if (height, width) == size:
        return frame
    area = spec.resize == "area" and height >= size[0] and width >= size[1]
    cv2 = _opencv()
    if cv2 is not None:
        return np.asarray(
            cv2.resize(frame, size[::-1], interpolation=cv2.INTER_AREA if area else cv2.INTER_LINEAR), np.uint8
        )
    return resize_numpy(frame, size, area=area)


def resize_numpy(frame: Image, size: tuple[int, int], *, area: bool) -> Image:
    """The same resize without OpenCV, equal to it within one step of 255; `size` is (height, width)."""
    weights = _area_weights if area else _bilinear_weights
    rows, columns = weights(frame.shape[0], size[0]), weights(frame.shape[1], size[1])
    flat = rows @ frame.reshape(frame.shape[0], -1).astype(np.float32)
    tall = flat.reshape(size[0], frame.shape[1], -1)
    out = np.einsum("wx,hxc->hwc", columns, tall, optimize=True)
    return np.asarray(np.clip(np.rint(out), 0, 255), np.uint8).reshape(*size, *frame.shape[2:])


@functools.lru_cache(maxsize=16)
def _area_weights(source: int, target: int) -> NDArray[np.float32]:
    edges = np.arange(target + 1) * (source / target)
    cells = np.arange(source)
    covered = np.minimum(edges[1:, None], cells + 1) - np.maximum(edges[:-1, None], cells)
    return np.asarray(np.clip(covered, 0, 1) * (target / source), np.float32)


@functools.lru_cache(maxsize=16)
def _bilinear_weights(source: int, target: int) -> NDArray[np.float32]:
    where = np.clip((np.arange(target) + 0.5) * (source / target) - 0.5, 0, source - 1)
    return np.asarray(np.clip(1 - np.abs(where[:, None] - np.arange(source)), 0, 1), np.float32)
