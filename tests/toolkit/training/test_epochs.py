"""Class weights: every class counts alike, within a limit."""

from __future__ import annotations

import numpy as np

from toolkit.training.epochs import MOST_WEIGHT, class_weights


def test_a_class_weighs_as_many_times_more_as_it_is_rarer() -> None:
    assert class_weights(np.repeat([0, 1, 2], [6, 3, 3]), 3).tolist() == np.float32([12 / 18, 12 / 9, 12 / 9]).tolist()


def test_a_very_rare_class_weighs_no_more_than_the_limit() -> None:
    weights = class_weights(np.repeat([0, 1], [999, 1]), 2)
    assert weights[1] == MOST_WEIGHT == 10 and weights[0] == np.float32(1000 / (2 * 999))
