"""Which int8 a runtime gets: the integers that all share, or those of its own quantizer. By measurement."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from converters import CONVERTERS, shared
from converters.instruction_set import instruction_set
from converters.int8_options import Scheme
from converters.keras_export import Export
from converters.parity import answers
from converters.race import Times, race
from converters.shared.graph import Unsupported
from converters.tflite_file import read_graph

SHARING = ("litert", "onnx", "openvino")
LSB = {"litert": 0, "onnx": 0, "openvino": 2}
"""Largest difference from LiteRT's logits, in steps of their scale, with which the scheme still holds."""
SLOWER = {"litert": 1.0, "onnx": 1.10, "openvino": 1.15}
"""How much longer than with the runtime's own quantizer it may take."""


class SchemeReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for and chosen, and why. `lsb[d]` counts the logits that differ from LiteRT's by d steps of their
    scale, over `images` images; `ms` and `native_ms` are times of one inference on one thread, measured in one run on
    `instruction_set`, None where there was nothing to compare."""

    asked: Scheme
    chosen: Literal["shared", "native"]
    reason: str
    lsb: list[int] = []
    images: int = 0
    ms: float | None = None
    native_ms: float | None = None
    instruction_set: str = ""


def convert(
    name: str, runtime: str, export: Export, folder: Path, images: NDArray[np.uint8], asked: Scheme
) -> tuple[list[Path], SchemeReport]:
    """Write the int8 artifact `name` into `folder` by the scheme that is asked for, with "auto" by the better one.

    Raises:
        Unsupported: "shared" is asked for, and the network has an operator that cannot be shared.
    """
    native = CONVERTERS.load(name)
    if asked == "native":
        return native(export, folder), SchemeReport(asked=asked, chosen="native", reason="asked for")
    try:
        files = shared.write(runtime, export, folder)
    except Unsupported as error:
        if asked == "shared":
            raise
        return native(export, folder), SchemeReport(asked=asked, chosen="native", reason=str(error))
    if runtime == "litert":
        return files, SchemeReport(asked=asked, chosen="shared", reason="the others follow this one")
    lsb = differences(runtime, files[0], export, images)
    report = SchemeReport(
        asked=asked,
        chosen="shared",
        reason="asked for",
        lsb=lsb,
        images=len(images),
        instruction_set=instruction_set(),
    )
    return (files, report) if asked == "shared" else _by_measurement(name, runtime, export, files, images, report)


def differences(runtime: str, path: Path, export: Export, images: NDArray[np.uint8]) -> list[int]:
    """How many logits differ by 0, 1, 2 ... steps of their scale from those that LiteRT gives for the shared file."""
    source = shared.source(export)
    graph = read_graph(source)
    scale = float(graph.tensors[graph.outputs[0]].scale[0])
    one, other = (answers(each, file, export.spec, images) for each, file in (("litert", source), (runtime, path)))
    steps = np.rint(np.abs(one - other) / scale).astype(np.int64)
    return [int(count) for count in np.bincount(steps.ravel())]


def _by_measurement(
    name: str, runtime: str, export: Export, files: list[Path], images: NDArray[np.uint8], report: SchemeReport
) -> tuple[list[Path], SchemeReport]:
    """The shared files, or in their place the runtime's own."""
    folder = files[0].parent
    own = folder / "native"
    own.mkdir()
    rivals = CONVERTERS.load(name)(export, own)
    times = race(runtime, files[0], rivals[0], export.spec, images[0])
    against = _objection(runtime, report.lsb, times)
    report = msgspec.structs.replace(
        report,
        chosen="native" if against else "shared",
        reason=against or f"{_steps(report.lsb)}, {times.ratio:.2f} times its own quantizer's time",
        ms=round(times.one_ms, 4),
        native_ms=round(times.other_ms, 4),
    )
    if against:
        for rival in rivals:
            rival.replace(folder / rival.name)
    shutil.rmtree(own)
    return files, report


def _objection(runtime: str, lsb: list[int], times: Times) -> str:
    """Why the shared scheme does not hold; empty if it does."""
    if len(lsb) - 1 > LSB[runtime]:
        return f"shared {_steps(lsb)}, allowed {LSB[runtime]}"
    if times.ratio > SLOWER[runtime]:
        return f"shared takes {times.ratio:.2f} times its own quantizer's time, allowed {SLOWER[runtime]:.2f}"
    return ""


def _steps(lsb: list[int]) -> str:
    """How far the logits are from LiteRT's, in words.

    >>> _steps([100]), _steps([98, 1, 1])
    ("equal to LiteRT's in all 100 logits", "differs from LiteRT's by up to 2 steps, in 2.0 % of 100 logits")
    """
    total = sum(lsb)
    if len(lsb) == 1:
        return f"equal to LiteRT's in all {total} logits"
    return (
        f"differs from LiteRT's by up to {len(lsb) - 1} steps, in {100 - 100 * lsb[0] / total:.1f} % of {total} logits"
    )
