"""A drawn line of metal parts, see `surface`: for demonstrations and tests. Needs numpy only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import numpy as np
from msgspec import Meta

from device_agent.frames import Frame, SourceEnded, read_options
from device_agent.frames.line import Lens, Line
from device_agent.frames.surface import FINISHES, KINDS, Field, make_part, photograph

GOOD = 0.99


class SyntheticLine(Line, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A Line of product `product`, photographed at `size` px by camera number `camera`, for `frames` frames; defects
    show `contrast` times as clearly as they usually do."""

    size: Annotated[int, Meta(ge=32, le=1024)] = 96
    product: Annotated[int, Meta(ge=0, lt=len(FINISHES))] = 0
    camera: Annotated[int, Meta(ge=0)] = 0
    frames: Annotated[int, Meta(ge=1)] | None = None
    contrast: Annotated[float, Meta(ge=0.1, le=10)] = 1.0


class Synthetic:
    """Parts drawn from a seed: the same options give the same parts. A change-over makes the next product."""

    live = False

    @staticmethod
    def check(_target: str, options: dict[str, str]) -> SyntheticLine:
        """The options; raises BadInput."""
        return read_options(options, SyntheticLine, where="source synthetic")

    def __init__(self, target: str, options: dict[str, str], clock: Callable[[], int]) -> None:
        self.line = self.check(target, options)
        self.fps = self.line.fps
        self._clock = clock
        self._rng = np.random.default_rng(self.line.seed)
        self._lens = Lens(self.line.seed)
        self._started_ns = clock()
        self._stamp = 0
        self._part: Field | None = None
        self._product = self.line.product

    def read(self) -> Frame:
        """The next frame; raises SourceEnded after `frames` of them."""
        if self._stamp == self.line.frames:
            raise SourceEnded
        now_ns = self._clock()
        elapsed_s = (now_ns - self._started_ns) / 1e9
        part = self._show(self.line.changed_over(elapsed_s))
        light = self.line.light_now(elapsed_s)
        image = photograph(self._rng, part, light=light, camera=self.line.camera)
        frame = Frame(
            self._lens.soil(image, self.line.dirt_now(elapsed_s)), self._stamp, now_ns, self._stamp // self.line.hold
        )
        self._stamp += 1
        return frame

    def _show(self, changed_over: bool) -> Field:
        product = (self.line.product + changed_over) % len(FINISHES)
        if self._part is None or self._stamp % self.line.hold == 0 or product != self._product:
            share = GOOD if self.line.good is None else self.line.good
            kind = KINDS[0] if self._rng.random() < share else str(self._rng.choice(KINDS[1:]))
            line = self.line
            self._part = make_part(self._rng, kind, size=line.size, product=product, contrast=line.contrast)
            self._product = product
        return self._part

    def close(self) -> None:
        """Nothing is held."""
