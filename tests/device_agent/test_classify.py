"""Logits that are no numbers have no answer."""

from __future__ import annotations

import numpy as np
import pytest

from device_agent.classify import classify
from device_agent.contract.errors import BadInput


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, 2])
def test_a_logit_that_is_not_finite_is_refused(wrong: float, at: int) -> None:
    logits = np.array([0.1, 0.2, 0.3], np.float32)
    logits[at] = wrong
    with pytest.raises(BadInput, match="must be finite"):
        classify(logits, 1.0)


def test_the_largest_logits_still_have_one() -> None:
    answer = classify(np.array([-3e38, 3e38, 0], np.float32), 0.01)
    assert (answer.label, answer.probability, answer.bin) == (1, 1.0, 23)
    with pytest.raises(BadInput, match="must be finite"), np.errstate(all="ignore"):
        classify(np.array([3.0, 1, 2], np.float32), 1e-320)
