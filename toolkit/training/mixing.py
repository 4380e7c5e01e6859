"""Two images and their targets become one: mixup and cutmix."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Mix(NamedTuple):
    """How a batch of b images is mixed: `partner` (b,) is the other image of each, `share` (b,) float32 what is left of
    its own, 0 to 1; `boxes` (b, 4) int64 are top, bottom, left, right of what cutmix takes from the partner, None for
    mixup."""

    partner: NDArray[np.int64]
    share: NDArray[np.float32]
    boxes: NDArray[np.int64] | None = None

    def images(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The mixed images (b, h, w, c) uint8, rounded; the given ones are left as they are."""
        if self.boxes is None:
            own = self.share[:, None, None, None]
            blend = images * own
            blend += images[self.partner] * (1 - own)
            return np.asarray(np.rint(blend, out=blend), np.uint8)
        out = images.copy()
        for row, (top, bottom, left, right) in enumerate(self.boxes):
            out[row, top:bottom, left:right] = images[self.partner[row], top:bottom, left:right]
        return out

    def targets(self, targets: NDArray[Any]) -> NDArray[np.float32]:
        """The mixed targets (b, classes) float32: each row by its share."""
        own = self.share[:, None]
        return np.asarray(own * targets + (1 - own) * targets[self.partner], np.float32)


def draw_mix(rng: np.random.Generator, batch: int, mixup: float, cutmix: float, height: int, width: int) -> Mix | None:
    """A mix for a batch, None where both alphas are 0; where both are over 0 a coin decides for the batch.

    `mixup` and `cutmix` are the alpha of the Beta(alpha, alpha) distribution of the share. mixup: Zhang et al. 2018,
    mixup: beyond empirical risk minimization; cutmix: Yun et al. 2019, whose share is that of the area after the box
    is cut to the image.

    >>> mix = draw_mix(np.random.default_rng(0), 2, 0.2, 0.0, 8, 8)
    >>> float(mix.targets(np.eye(2)).sum())
    2.0
    """
    if not (mixup or cutmix):
        return None
    partner = rng.permutation(batch)
    if mixup and (not cutmix or rng.random() < 0.5):
        return Mix(partner, rng.beta(mixup, mixup, batch).astype(np.float32))
    side = np.sqrt(1 - rng.beta(cutmix, cutmix, batch))
    bounds = []
    for length in (height, width):
        half, centre = side * length / 2, rng.uniform(0, length, batch)
        bounds += [np.rint(np.clip(centre + sign * half, 0, length)).astype(np.int64) for sign in (-1, 1)]
    boxes = np.stack(bounds, axis=1)
    area = (boxes[:, 1] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 2])
    return Mix(partner, (1 - area / (height * width)).astype(np.float32), boxes)
