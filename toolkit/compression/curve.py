"""The latency curve of a runtime: how long a block takes as a function of its channels, and which counts are good.

Runtimes compute several channels at once, and some take another, slower way where the count does not fit: ONNX Runtime
takes nearly four times as long for one channel fewer. A curve is measured once for each machine, runtime and version.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from converters.parity import precision_of
from device_agent.contract.codec import read_document_file
from device_agent.contract.errors import BadInput
from device_agent.contract.files import write_whole
from device_agent.contract.manifest import InputSpec
from device_agent.measure import Effort, device_name, repeat, warm_up
from device_agent.runtimes import open_runtime
from toolkit.compression.speed import check_artifacts, write_file
from toolkit.framework import load_keras
from toolkit.training.watch import Watch

SCHEMA = "1.0"
SIDE = 32  # px of the block's map
COUNTS = (*range(48, 65), 68, 72, 76, 80, 84, 88, 92, 96)
"""Channel counts that are measured: each of 48 to 64, then every fourth."""
CANDIDATES = (1, 2, 4, 8, 16, 32)
GAIN = 1.1
"""A count is bad if a larger one is faster by more than this."""
EFFORT = Effort(20, 0.15)


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """p50 in ms, measured, of a block (1x1 convolution, 3x3 depthwise, 1x1) on a map of 32 x 32, by its channels."""

    schema: str = SCHEMA
    device: str
    artifact: str
    runtime_version: str
    provenance: str = "measured"
    p50_ms: dict[int, float]


def alignment_of(artifact: str, *, cache: Path | None = None, watch: Watch | None = None) -> int:
    """The multiple that channel counts should go to on this machine, by the curve of an artifact's runtime; the curve
    is kept in the folder `cache`, by default that of the user.

    Raises:
        BadInput: no such artifact, or its runtime cannot run the block.
    """
    check_artifacts([artifact])
    runtime, _ = precision_of(artifact)
    version = _version(runtime)
    path = (cache or cache_folder()) / f"{artifact}-{_key(artifact, version)}.json"
    curve = read_document_file(path, Curve, reads=SCHEMA)
    if curve is None:
        curve = Curve(
            device=device_name(), artifact=artifact, runtime_version=version, p50_ms=_measured(artifact, watch)
        )
        write_whole(path, msgspec.json.format(msgspec.json.encode(curve), indent=2) + b"\n")
    return good_step(curve.p50_ms)


def good_step(p50_ms: Mapping[int, float]) -> int:
    """The smallest step such that no count that is a multiple of it is much slower than a larger count.

    >>> good_step({16: 1.0, 17: 3.7, 18: 3.6, 20: 3.5, 24: 1.5, 32: 2.0})
    8
    >>> good_step({16: 1.0, 17: 1.06, 18: 1.12, 20: 1.3, 24: 1.5, 32: 2.0})
    1
    """
    counts = sorted(p50_ms)
    best_above = {count: min(p50_ms[other] for other in counts if other >= count) for count in counts}
    for step in CANDIDATES:
        if all(p50_ms[count] <= GAIN * best_above[count] for count in counts if count % step == 0):
            return step
    return CANDIDATES[-1]


def cache_folder() -> Path:
    """Where curves are kept: lineside/curves in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lineside" / "curves"


def _key(artifact: str, version: str) -> str:
    counts = ",".join(map(str, COUNTS))
    return hashlib.sha256(f"{device_name()}|{artifact}|{version}|{SIDE}|{counts}".encode()).hexdigest()[:12]


def _version(runtime: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    package = {"litert": "ai-edge-litert", "onnx": "onnxruntime", "openvino": "openvino"}.get(runtime, runtime)
    try:
        return version(package)
    except PackageNotFoundError:
        raise BadInput(f"{runtime}: {package} is not installed, so that no curve can be measured") from None


def _measured(artifact: str, watch: Watch | None) -> dict[int, float]:
    """p50 of each count: the least of two turns over all of them."""
    with tempfile.TemporaryDirectory() as folder:
        runs = {}
        for count in COUNTS:
            if watch is not None:
                watch.stage(f"curve of {artifact}: {count} channels")
            runs[count] = _opened(artifact, count, Path(folder) / str(count))
        turns = [{count: run() for count, run in runs.items()} for _ in range(2)]
    return {count: min(turn[count] for turn in turns) for count in COUNTS}


def _opened(artifact: str, count: int, folder: Path) -> Callable[[], float]:
    """What times the block of so many channels."""
    import time

    spec, (runtime, _) = InputSpec(height=SIDE, width=SIDE), precision_of(artifact)
    images = np.random.default_rng(0).integers(0, 256, (8, SIDE, SIDE, 3), np.uint8)
    file = write_file(_block(count), artifact, spec, images, folder)
    opened = open_runtime(runtime, file.path, spec, threads=1)
    tensor = opened.encode(images[0])

    def run() -> float:
        warm_up(lambda: opened.invoke(tensor), wall=time.perf_counter, most_s=0.3)
        samples = repeat(lambda: opened.invoke(tensor), EFFORT, wall=time.perf_counter, cpu=time.thread_time)
        return float(np.median(samples.wall_ms))

    return run


def _block(count: int) -> Any:
    """A network of one block: 3 channels in, two classes out."""
    keras = load_keras()
    layers = keras.layers
    image = keras.Input((SIDE, SIDE, 3), name="image")
    maps = layers.ReLU(6.0)(layers.Conv2D(count, 1)(image))
    maps = layers.ReLU(6.0)(layers.DepthwiseConv2D(3, padding="same")(maps))
    maps = layers.ReLU(6.0)(layers.Conv2D(count, 1)(maps))
    pooled = layers.GlobalAveragePooling2D(name="pooled")(maps)
    return keras.Model(image, layers.Dense(2, name="logits")(pooled))
