"""What was asked of an int8 artifact: part of what makes it out of date."""

from __future__ import annotations

from typing import Literal

import msgspec

from converters.calibration import COUNT

Scheme = Literal["auto", "shared", "native"]
Ranges = Literal["minmax", "percentile", "mse"]


class Int8Options(msgspec.Struct, frozen=True, kw_only=True):
    """`scheme` is whether runtimes share one quantization, `ranges` the estimator that the shared one starts with.

    `max_drop` is the macro-F1, 0 to 1, that may be lost, None for what the gate allows. `calibration` is the number of
    calibration images, drawn by class and by the values of the column `calibrate_by`; empty for what the manifest has
    of site, line, device, camera and lighting.
    """

    scheme: Scheme = "auto"
    ranges: Ranges = "mse"
    max_drop: float | None = None
    calibration: int = COUNT
    calibrate_by: str = ""
    qat: int = 0


DEFAULT = Int8Options()
