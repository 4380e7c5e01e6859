"""evidently: the tests that it chooses for large columns, on confidence and predicted class, hourly."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import evidently
import numpy as np
import pandas as pd
from evidently.legacy.calculations.stattests import jensenshannon_stat_test, psi_stat_test, wasserstein_stat_test
from evidently.legacy.core import ColumnType
from feed import Case, Notes, blocks, calibrated, run, unfold

warnings.filterwarnings("ignore")
EVERY = 10
"""One frame in ten of the reference and of an hour is unfolded: 3,600 rows an hour, so that it ends in time."""


def hourly(test, column: ColumnType, limit: float | None) -> Callable[[Case], Notes]:
    """A statistic of each hour against the reference, over `limit` or over 1.5 times the reference's own largest."""

    def frames(counts: np.ndarray) -> pd.Series:
        if column == ColumnType.Numerical:
            return pd.Series(unfold(counts)[::EVERY])
        return pd.Series(np.repeat(["good", "defect"], [counts[:24].sum(), counts[24:].sum()])[::EVERY])

    def method(case: Case) -> Notes:
        learnt, watched = blocks(case.learn), blocks(case.watch)
        up = np.zeros(watched.shape[:2], np.bool_)
        for device in range(case.devices):
            past = frames(learnt[device].sum(axis=0) // 72)

            def score(hour: np.ndarray, past: pd.Series = past) -> float:
                return float(test.func(past, frames(hour), column, 0.1)[0])

            own = limit if limit is not None else calibrated(np.array([[score(hour) for hour in learnt[device]]]))[0]
            up[device] = [score(hour) > own for hour in watched[device]]
        return Notes(case).of_blocks(up)

    return method


NUMBER, CLASS = ColumnType.Numerical, ColumnType.Categorical
run(
    "evidently",
    {"evidently": evidently.__version__, "numpy": np.__version__, "pandas": pd.__version__},
    {
        "Wasserstein on confidence, hourly, default (0.1)": hourly(wasserstein_stat_test, NUMBER, 0.1),
        "Wasserstein on confidence, hourly, tuned (1.5 x reference)": hourly(wasserstein_stat_test, NUMBER, None),
        "Jensen-Shannon on class, hourly, default (0.1)": hourly(jensenshannon_stat_test, CLASS, 0.1),
        "Jensen-Shannon on class, hourly, tuned (1.5 x reference)": hourly(jensenshannon_stat_test, CLASS, None),
        "PSI on confidence, hourly, default (0.1)": hourly(psi_stat_test, NUMBER, 0.1),
    },
)
