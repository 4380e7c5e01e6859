"""What a runtime does with a model file, found by loading it. Run as a program, so that a file which brings the runtime
down brings down nothing else.

Usage: python -m converters.asking RUNTIME FILE     a `Truth` as JSON in the last line of stdout
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from device_agent.contract.optional import require
from device_agent.runtimes.onnx import session_options
from device_agent.runtimes.openvino import settings
from device_agent.runtimes.silence import require_silent

_MOVES = {"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "MaxPool", "NhwcMaxPool", "Identity"}
_LAYOUT = {"QuantizeLinear", "DequantizeLinear", "ReorderInput", "ReorderOutput"}


class Truth(msgspec.Struct, frozen=True, kw_only=True):
    """What one runtime tells: `delegated`, numbers of the operators that LiteRT gave to its delegate, in so many
    `pieces`; `floats`, how many operators of a kind ONNX Runtime computes in float32; `precision`, that in which
    OpenVINO computes each operator that it still names."""

    delegated: list[int] = []
    pieces: int = 0
    floats: dict[str, int] = {}
    precision: dict[str, str] = {}


def ask_litert(path: Path) -> Truth:
    """A node of the delegate names the tensors that it takes and gives, and what lies between them is inside of it."""
    litert = require("ai_edge_litert.interpreter", extra="agent-litert")
    interpreter = litert.Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    nodes = interpreter._get_ops_details()
    plain = [node for node in nodes if node["op_name"] != "DELEGATE"]
    maker = {int(tensor): number for number, node in enumerate(plain) for tensor in node["outputs"]}
    inside: set[int] = set()
    for node in nodes[len(plain) :]:
        given, waiting = {int(each) for each in node["inputs"]}, [int(each) for each in node["outputs"]]
        while waiting:
            tensor = waiting.pop()
            if tensor in maker and tensor not in given and maker[tensor] not in inside:
                inside.add(maker[tensor])
                waiting += [int(each) for each in plain[maker[tensor]]["inputs"]]
    return Truth(delegated=sorted(inside), pieces=len(nodes) - len(plain))


def ask_onnx(path: Path) -> Truth:
    """By the graph as ONNX Runtime optimized it. Integers come from QuantizeLinear and QLinear nodes, and pass through
    what only moves them; whatever else reads a tensor reads floats."""
    integers: set[str] = set()
    floats: Counter[str] = Counter()
    for node in _optimized(path).graph.node:
        integer = node.op_type.startswith("Q")  # QuantizeLinear, QLinearConv, QGemm
        if node.op_type in _MOVES:
            integer = node.input[0] in integers
        if integer:
            integers.update(node.output)
        elif node.op_type not in _LAYOUT:
            floats[node.op_type] += 1
    return Truth(floats=dict(floats))


def _optimized(path: Path) -> Any:
    onnx, ort = require("onnx", extra="toolkit"), require_silent("onnxruntime", extra="agent-onnx")
    with tempfile.TemporaryDirectory() as folder:
        options = session_options(ort)
        options.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
        ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return onnx.load(options.optimized_model_filepath)


def ask_openvino(path: Path) -> Truth:
    """By the precision of the node into which the plugin put each operator; what it fused away is not named."""
    ov = require_silent("openvino", extra="agent-openvino")
    compiled = ov.Core().compile_model(str(path), "CPU", settings())
    precision: dict[str, str] = {}
    for node in compiled.get_runtime_model().get_ordered_ops():
        facts = node.get_rt_info()
        for name in facts["originalLayersNames"].astype(str).split(","):
            precision[name] = facts["runtimePrecision"].astype(str)
    return Truth(precision=precision)


ASK: dict[str, Callable[[Path], Truth]] = {"litert": ask_litert, "onnx": ask_onnx, "openvino": ask_openvino}
"""How each runtime is asked."""


if __name__ == "__main__":
    found = ASK[sys.argv[1]](Path(sys.argv[2]))
    sys.stdout.write(f"\n{msgspec.json.encode(found).decode()}\n")
