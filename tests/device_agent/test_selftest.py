"""A difference is found, whatever number it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from device_agent.contract.errors import SelfTestFailed
from device_agent.contract.manifest import Golden
from device_agent.selftest import self_test


class Mean:
    """Logits (mean, 2 x mean) of the image, plus an error."""

    name, version, classes = "mean", "1", 2

    def __init__(self, error: float = 0.0) -> None:
        self._error = error

    def encode(self, image: NDArray[np.uint8]) -> NDArray[Any]:
        return image.astype(np.float32)

    def invoke(self, tensor: NDArray[Any]) -> NDArray[np.float32]:
        return np.array([tensor.mean(), 2 * tensor.mean() + self._error], np.float32)

    def close(self) -> None:
        pass


IMAGES = np.stack([np.full((2, 2, 3), level, np.uint8) for level in (3, 90)])
GOLDEN = Golden([[3.0, 6.0], [90.0, 180.0]], 0.01)


@pytest.mark.parametrize(("error", "ok"), [(0.0, True), (0.009, True), (0.02, False), (-1, False), (np.nan, False)])
def test_judges_by_the_tolerance(error: float, ok: bool) -> None:
    assert self_test(Mean(error), IMAGES, GOLDEN).ok is ok


def test_answers_that_do_not_belong_to_the_images() -> None:
    with pytest.raises(SelfTestFailed, match="2 golden images but 1 answers"):
        self_test(Mean(), IMAGES, Golden([[3.0, 6.0]], 0.01))
    with pytest.raises(SelfTestFailed, match="the answers have 3"):
        self_test(Mean(), IMAGES, Golden([[3.0, 6.0, 9.0]] * 2, 0.01))


def test_no_images_prove_nothing() -> None:
    assert not self_test(Mean(), IMAGES[:0], Golden([], 0.01)).ok
