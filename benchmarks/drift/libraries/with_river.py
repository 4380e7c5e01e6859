"""river: ADWIN, Page-Hinkley on the mean confidence of each minute, KSWIN of ten, one detector a device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import river
from feed import Case, Notes, blocks, mean_confidence, run
from river import drift


def sequential(make: Callable[[], Any], *, scaled: bool, minutes: int = 1) -> Callable[[Case], Notes]:
    """A river detector on the mean confidence of so many minutes, warmed up on the last day of the reference; `scaled`:
    in 40 standard deviations of the reference's values."""

    def method(case: Case) -> Notes:
        values, before = (mean_confidence(blocks(part, minutes)) for part in (case.watch, case.learn))
        if scaled:
            middle, spread = before.mean(axis=1, keepdims=True), 40 * before.std(axis=1, keepdims=True)
            values, before = (0.5 + (part - middle) / spread for part in (values, before))
        detectors = [make() for _ in range(case.devices)]
        for detector, past in zip(detectors, before, strict=True):
            for value in past[-1440 // minutes :]:
                detector.update(float(value))
        up = np.zeros(values.shape, np.bool_)
        for device, detector in enumerate(detectors):
            for at, value in enumerate(values[device].tolist()):
                detector.update(value)
                up[device, at] = detector.drift_detected
        return Notes(case).of_blocks(up, minutes)

    return method


run(
    "river",
    {"river": river.__version__, "numpy": np.__version__},
    {
        "ADWIN, default (delta 0.002)": sequential(lambda: drift.ADWIN(), scaled=False),
        "ADWIN, tuned (scaled, delta 1e-6)": sequential(lambda: drift.ADWIN(delta=1e-6), scaled=True),
        "Page-Hinkley, default (threshold 50)": sequential(lambda: drift.PageHinkley(), scaled=False),
        "Page-Hinkley, tuned (scaled, delta 0.02, threshold 1)": sequential(
            lambda: drift.PageHinkley(delta=0.02, threshold=1.0), scaled=True
        ),
        "KSWIN of 10 minutes, default (alpha 0.005)": sequential(lambda: drift.KSWIN(seed=1), scaled=False, minutes=10),
    },
)
