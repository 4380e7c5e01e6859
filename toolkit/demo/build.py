"""The demo's first half: from images to a bundle with three artifacts, by the same functions as the commands."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from toolkit.runs import Run

ARTIFACTS = ["litert-int8", "onnx-int8", "openvino-int8"]
PROFILE = "generic-x86-64"
WEIGHTS = "keras/mobilenet_v2_1.0_224_tf2ptq_dequant_no_top.h5"
Say = Callable[[str], None]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to build: `data` None draws synthetic parts; `weights` None trains from scratch. `prevalence` names the share
    of good parts on the line, None where the data set's own shares are the line's."""

    folder: Path
    data: Path | None = None
    weights: Path | None = None
    images: int = 3000
    good: float | None = 0.99


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the comparison: figures of one artifact, all measured on this machine through the device's runtimes
    on the validation images. `agreement` is the share of images on which Keras gives the same class."""

    artifact: str
    accuracy: float
    macro_f1: float
    agreement: float
    p50_ms: float
    p99_ms: float
    rss_peak_mib: float | None
    size_mib: float


class Stages:
    """Wall time of each stage in seconds, in the order in which they ran."""

    def __init__(self, say: Say) -> None:
        self.seconds: dict[str, float] = {}
        self._say = say

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the block and say how long it took."""
        began = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - began, 1)
        self._say(f"{name}: {self.seconds[name]:.1f} s")
