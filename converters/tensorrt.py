"""What a board builds a TensorRT engine from: the float ONNX file, a scale for each tensor, and the call that builds.

The engine itself is not made here, because it holds for one GPU and one TensorRT version. Nothing here needs TensorRT.
"""

from __future__ import annotations

import shutil
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from device_agent.contract.optional import require
from device_agent.runtimes.silence import require_silent

RECIPES = Path(__file__).parent / "recipes"
HEADER = "TRT-100300-MinMaxCalibration"
"""First line of a cache: TensorRT's version and how the scales were found. A calibrator takes only its own; build.sh
puts in that of the board."""


def write_recipe(model: Path, ranges: Mapping[str, float], folder: Path) -> list[str]:
    """model.onnx, calibration.cache, build.sh and README.txt in `folder`, by name."""
    shutil.copyfile(model, folder / "model.onnx")
    (folder / "calibration.cache").write_text(cache_text(ranges))
    for name in ("build.sh", "README.txt"):
        shutil.copyfile(RECIPES / name, folder / name)
    (folder / "build.sh").chmod(0o755)
    return ["model.onnx", "calibration.cache", "build.sh", "README.txt"]


def measure_ranges(model: Path, tensors: Iterable[NDArray[np.float32]]) -> dict[str, float]:
    """Largest magnitude of each float32 activation of an ONNX model over `tensors`, its inputs, one at a time.

    The input comes first, then what each operator makes, in the order of the graph; constants are left out. ONNX
    Runtime runs the graph as it is in the file, not fused.

    Raises:
        BadInput: a tensor is not finite.
    """
    onnx = require("onnx", extra="toolkit")
    ort = require_silent("onnxruntime", extra="toolkit")
    graph = onnx.load(str(model))
    image = graph.graph.input[0].name
    made = [name for node in graph.graph.node if node.op_type != "Constant" for name in node.output if name]
    there = {output.name for output in graph.graph.output}
    graph.graph.output.extend(onnx.ValueInfoProto(name=name) for name in made if name not in there)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = ort.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    ranges: dict[str, float] = {}
    for tensor in tensors:
        for name, value in zip([image, *made], [tensor, *session.run(made, {image: tensor})], strict=True):
            if value.dtype != np.float32:
                continue
            peak = float(np.abs(value).max(initial=0))
            if not np.isfinite(peak):
                raise BadInput(f"{model}: tensor {name} is not finite on a calibration image; train again")
            ranges[name] = max(ranges.get(name, 0.0), peak)
    return ranges


def cache_text(ranges: Mapping[str, float]) -> str:
    """TensorRT's calibration cache: a header, then "tensor: scale" with the bits of the float32 scale in hexadecimal,
    highest byte first. The scale is the largest magnitude / 127; a tensor that was always 0 has none.

    >>> print(cache_text({"image": 1.0, "dead": 0.0, "logits": 12.5}), end="")
    TRT-100300-MinMaxCalibration
    image: 3c010204
    logits: 3dc99326
    """
    lines = [f"{name}: {struct.pack('>f', scale).hex()}" for name, scale in scales(ranges).items()]
    return "\n".join([HEADER, *lines]) + "\n"


def scales(ranges: Mapping[str, float]) -> dict[str, float]:
    """Symmetric int8 scale of each tensor, largest magnitude / 127 in float32; tensors without extent are left out.

    >>> scales({"a": 254.0, "b": 0.0})
    {'a': 2.0}
    """
    found = {name: float(np.float32(peak / 127)) for name, peak in ranges.items()}
    return {name: scale for name, scale in found.items() if scale > 0}
