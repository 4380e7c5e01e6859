"""Which images a quantizer gets to see, and as what."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from device_agent.contract.manifest import InputSpec
from device_agent.preprocess import table

COUNT = 256


def draw(labels: NDArray[np.integer], count: int = COUNT, *, seed: int = 0) -> NDArray[np.int64]:
    """Row numbers of `count` images, or of all when there are fewer: the classes in turn until each is used up.

    A class of which the line sees one in a hundred has to be in it: its activations set the ranges.

    >>> draw(np.array([0, 0, 0, 0, 0, 0, 1]), 4).size
    4
    >>> 6 in draw(np.array([0, 0, 0, 0, 0, 0, 1]), 4)
    True

    Raises:
        BadInput: no images.
    """
    if len(labels) == 0:
        raise BadInput("calibration: no training images to calibrate with")
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    turn = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        members = shuffled[labels[shuffled] == label]
        turn[members] = np.arange(len(members))
    order = shuffled[np.argsort(turn[shuffled], kind="stable")]
    return np.sort(order[:count])


def tensors(
    images: NDArray[np.uint8], spec: InputSpec, *, channels_first: bool = False
) -> Iterator[NDArray[np.float32]]:
    """Model inputs (1, h, w, c), or (1, c, h, w), float32 of images (n, h, w, c) uint8, one at a time."""
    values = table(spec)
    for image in images:
        yield np.ascontiguousarray(values[image.transpose(2, 0, 1) if channels_first else image][None])
