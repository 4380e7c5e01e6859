"""Known answers: the runtime must give the bundle's logits for the bundle's golden images."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import SelfTestFailed
from device_agent.contract.manifest import Golden
from device_agent.runtimes import Runtime, logits


class SelfTest(msgspec.Struct, frozen=True, kw_only=True):
    """How a runtime did: the largest difference of any logit, and the one that would still be right."""

    samples: int
    worst: float
    tolerance: float

    @property
    def ok(self) -> bool:
        """Is every logit within the tolerance? A difference that is no number is not."""
        return self.samples > 0 and self.worst <= self.tolerance

    @property
    def words(self) -> str:
        """The difference, for a person."""
        return f"a golden logit is off by {self.worst:.3g}, {self.tolerance:.3g} is allowed"


def self_test(runtime: Runtime, images: NDArray[np.uint8], golden: Golden) -> SelfTest:
    """Compare the runtime's logits for `images` (n, h, w, c) uint8 with the golden ones.

    Raises:
        SelfTestFailed: there are not as many images as answers, or of another shape.
    """
    if len(images) != len(golden.logits):
        raise SelfTestFailed(f"self-test: {len(images)} golden images but {len(golden.logits)} answers")
    worst = 0.0
    for image, wanted in zip(images, golden.logits, strict=True):
        given = logits(runtime, image)
        if given.shape != (len(wanted),):
            raise SelfTestFailed(f"self-test: {given.shape} logits, the answers have {len(wanted)}")
        difference = np.abs(given - np.array(wanted, np.float32)).max()
        worst = float(np.fmax(worst, difference)) if np.isfinite(difference) else float("inf")
    return SelfTest(samples=len(images), worst=worst, tolerance=golden.tolerance)
