"""What passes before a drawn or a filed camera: the share of good parts, how long each stays, what goes wrong when."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from device_agent.frames import Image
from device_agent.frames.surface import Field, lens_dirt, soil

Seconds = Annotated[float, Meta(ge=0, le=1e9)]
Fps = Annotated[float, Meta(ge=0.01, le=1000)]
DIRT = 0.6  # severity of `dirt_at` without `dirt`


class Line(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of a source that is no camera. Times are seconds since the source was opened.

    `fps` paces the source (without it, each frame waits for its reader); `good` is the share of good parts; each part
    is seen in `hold` frames; from `dirt_at` on the lens is dirty with severity `dirt` 0 to 1, from `changeover_at` on
    another product is made, from `light_at` on the lamp has the level `light` (1 is normal). `dirt_when` and
    `changeover_when` begin the same, for ever, once a file of that name is there: somebody else chooses the moment.
    `ledger` is a file to which the stamp and time of each frame are appended, see `tally`.
    """

    seed: Annotated[int, Meta(ge=0)] = 0
    fps: Fps | None = None
    good: Annotated[float, Meta(ge=0, le=1)] | None = None
    hold: Annotated[int, Meta(ge=1)] = 1
    dirt: Annotated[float, Meta(ge=0, le=1)] | None = None
    dirt_at: Seconds | None = None
    dirt_when: str | None = None
    changeover_at: Seconds | None = None
    changeover_when: str | None = None
    light: Annotated[float, Meta(gt=0, le=4)] = 1.0
    light_at: Seconds = 0.0
    ledger: str | None = None

    def dirt_now(self, elapsed_s: float) -> float:
        """Severity of the dirt on the lens, 0 to 1.

        >>> Line(dirt_at=10).dirt_now(9), Line(dirt_at=10).dirt_now(11), Line(dirt=0.2).dirt_now(0)
        (0.0, 0.6, 0.2)
        """
        severity = DIRT if self.dirt is None else self.dirt
        if self.dirt_when is not None:
            return severity if Path(self.dirt_when).exists() else 0.0
        if (self.dirt is None and self.dirt_at is None) or elapsed_s < (self.dirt_at or 0.0):
            return 0.0
        return severity

    def light_now(self, elapsed_s: float) -> float:
        """Level of the lamp."""
        return self.light if elapsed_s >= self.light_at else 1.0

    def changed_over(self, elapsed_s: float) -> bool:
        """Is the other product on the line?"""
        if self.changeover_when is not None:
            return Path(self.changeover_when).exists()
        return self.changeover_at is not None and elapsed_s >= self.changeover_at


class Lens:
    """A lens with dirt of its own, in the same place on every frame."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._dirt: dict[int, Field] = {}

    def soil(self, image: Image, severity: float) -> Image:
        """The frame (h, w, 3) uint8 through this lens; severity 0 leaves it as it is."""
        if severity <= 0:
            return image
        height, width = image.shape[:2]
        side = max(height, width)
        if side not in self._dirt:
            self._dirt = {side: lens_dirt(np.random.default_rng([self._seed, 0xD1]), side)}
        return soil(image, self._dirt[side][:height, :width], severity)


def brighten(image: Image, light: float) -> Image:
    """The frame under a lamp of another level, clipped at 255."""
    if light == 1.0:
        return image
    return np.asarray(np.minimum(np.rint(np.arange(256) * light), 255), np.uint8)[image]


def other_product(image: Image) -> Image:
    """The frame as another product would look: mirrored, darker in the shadows, with a strong tint; (h, w, 3) uint8.

    >>> other_product(np.full((1, 1, 3), 128, np.uint8)).tolist()
    [[[113, 85, 52]]]
    """
    shadows = 255 * (np.arange(256) / 255) ** 1.6
    tables = np.rint(shadows[None, :] * np.array([[1.34], [1.0], [0.61]])).clip(0, 255).astype(np.uint8)
    turned = image[::-1, ::-1]
    return np.ascontiguousarray(np.stack([tables[k][turned[:, :, k]] for k in range(3)], axis=2))
