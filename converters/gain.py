"""What an artifact is for: to be smaller or faster than the float file of its runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from converters import CONVERTERS
from converters.console import held_back
from converters.keras_export import Export
from converters.parity import precision_of
from converters.race import race
from device_agent.contract.errors import ParityFailed


def check_gain(name: str, export: Export, files: list[Path], image: NDArray[np.uint8]) -> None:
    """Refuse a file that is neither smaller nor faster than the float file of its runtime, both timed on an image
    (h, w, c) uint8 on this machine.

    Raises:
        ParityFailed: it is neither.
    """
    runtime, precision = precision_of(name)
    parents = [f"{runtime}-{each}" for each in ("fp32", "fp16") if f"{runtime}-{each}" in CONVERTERS.names()]
    size = _size(files)
    if precision == "fp32" or name in parents[:1] or size < 4 * int(export.model.count_params()):
        return
    folder = export.scratch / f"{name}.parent"
    folder.mkdir(exist_ok=True)
    with held_back():
        plain = CONVERTERS.load(parents[0])(export, folder)
    if size >= _size(plain) and race(runtime, files[0], plain[0], export.spec, image).ratio >= 1:
        raise ParityFailed(
            f"{name}: neither smaller ({size} bytes) nor faster than {parents[0]} ({_size(plain)} bytes)"
        )


def _size(files: list[Path]) -> int:
    return sum(path.stat().st_size for path in files)
