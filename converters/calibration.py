"""Which images a quantizer gets to see, and as what."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from device_agent.contract.manifest import InputSpec
from device_agent.preprocess import table

COUNT = 256


def draw(
    labels: NDArray[np.integer], count: int = COUNT, *, seed: int = 0, slices: NDArray[np.str_] | None = None
) -> NDArray[np.int64]:
    """Row numbers of `count` images, or of all when there are fewer: the classes in turn until each is used up, and
    within a class the slices (n,) in turn.

    A class of which the line sees one in a hundred has to be in it, and so has a camera: they set the ranges.

    >>> 6 in draw(np.array([0, 0, 0, 0, 0, 0, 1]), 4)
    True
    >>> night = np.array(["day"] * 5 + ["night", "day"])
    >>> 5 in draw(np.array([0, 0, 0, 0, 0, 0, 1]), 3, slices=night)
    True

    Raises:
        BadInput: no images.
    """
    if len(labels) == 0:
        raise BadInput("calibration: no training images to calibrate with")
    order = np.random.default_rng(seed).permutation(len(labels))
    if slices is not None:
        places = np.unique(slices, return_inverse=True)[1].reshape(-1)
        order = _in_turn(order, labels * (int(places.max()) + 1) + places)
    return np.sort(_in_turn(order, labels)[:count])


def _in_turn(order: NDArray[np.int64], groups: NDArray[np.integer]) -> NDArray[np.int64]:
    """The rows of `order` (n,) with the first of each group, then the second of each, and so on; else as they were."""
    turn = np.empty(len(order), np.int64)
    for group in np.unique(groups):
        members = order[groups[order] == group]
        turn[members] = np.arange(len(members))
    return np.asarray(order[np.argsort(turn[order], kind="stable")])


def tensors(
    images: NDArray[np.uint8], spec: InputSpec, *, channels_first: bool = False
) -> Iterator[NDArray[np.float32]]:
    """Model inputs (1, h, w, c), or (1, c, h, w), float32 of images (n, h, w, c) uint8, one at a time."""
    values = table(spec)
    for image in images:
        yield np.ascontiguousarray(values[image.transpose(2, 0, 1) if channels_first else image][None])
