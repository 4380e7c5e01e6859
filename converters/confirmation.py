"""What a runtime itself does with a model, held against what the rules predict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from converters.console import held_back
from converters.op_rules import Placement
from device_agent.contract.errors import BadInput
from device_agent.contract.optional import require
from device_agent.runtimes.silence import require_silent

_MOVES = {"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "MaxPool", "NhwcMaxPool", "Identity"}
_LAYOUT = {"QuantizeLinear", "DequantizeLinear", "ReorderInput", "ReorderOutput"}


class Confirmation(msgspec.Struct, frozen=True, kw_only=True):
    """Prediction and truth in one number each, of what `counted` says, and the operators that were placed wrongly."""

    runtime: str
    counted: str
    predicted: int
    found: int
    differing: list[str] = []

    @property
    def agrees(self) -> bool:
        """Whether the runtime does as predicted."""
        return self.predicted == self.found and not self.differing


class Delegated(NamedTuple):
    """Numbers of the operators that LiteRT gave to its delegate, and in how many pieces."""

    operators: set[int]
    pieces: int


def confirm(placement: Placement, path: Path, runtime: str) -> Confirmation:
    """Load the file at `path` into `runtime` and look where its operators went.

    Raises:
        MissingPackage: the runtime is not installed.
        BadInput: no runtime that can be asked, or it cannot load the file.
    """
    ways: dict[str, Callable[[Placement, Path], Confirmation]] = {
        "litert": _confirm_litert,
        "onnx": _confirm_onnx,
        "openvino": _confirm_openvino,
    }
    if runtime not in ways:
        raise BadInput(f"no runtime {runtime!r} that can be asked; known are {', '.join(ways)}")
    try:
        with held_back():
            return ways[runtime](placement, path)
    except (RuntimeError, ValueError) as error:
        raise BadInput(f"{path}: {runtime} cannot load it: {str(error).strip().splitlines()[-1].lower()}") from error


def delegated(path: Path) -> Delegated:
    """What LiteRT gave to XNNPACK: a node of the delegate names the tensors that it takes and gives, and what lies
    between them is inside of it.

    Raises:
        MissingPackage: LiteRT is not installed.
        ValueError, RuntimeError: it cannot load the file.
    """
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
    return Delegated(inside, len(nodes) - len(plain))


def _confirm_litert(placement: Placement, path: Path) -> Confirmation:
    found = delegated(path)
    wrong = [op for op in placement.ops if (op.verdict == "accelerator") != (op.number in found.operators)]
    return Confirmation(
        runtime=f"LiteRT {version('ai-edge-litert')}",
        counted="pieces in XNNPACK",
        predicted=placement.pieces,
        found=found.pieces,
        differing=[f"{op.kind} {op.number}" for op in wrong],
    )


def _confirm_onnx(placement: Placement, path: Path) -> Confirmation:
    """By the graph as ONNX Runtime optimized it. Names do not survive that, so operators are counted by kind."""
    found = _float_kinds(_optimized(path))
    predicted = Counter(op.kind for op in placement.ops if op.verdict == "cpu" and op.kind not in _LAYOUT)
    differing = sorted((predicted - found) + (found - predicted))
    return Confirmation(
        runtime=f"ONNX Runtime {version('onnxruntime')}",
        counted="operators in float32 between those in 8 bits",
        predicted=predicted.total(),
        found=found.total(),
        differing=differing,
    )


def _optimized(path: Path) -> Any:
    onnx, ort = require("onnx", extra="toolkit"), require_silent("onnxruntime", extra="agent-onnx")
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
        options.log_severity_level = 3
        ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return onnx.load(options.optimized_model_filepath)


def _float_kinds(model: Any) -> Counter[str]:
    """How many nodes of each kind read floats: integers come from QuantizeLinear and QLinear nodes, and pass through
    what only moves them."""
    integers: set[str] = set()
    floats: Counter[str] = Counter()
    for node in model.graph.node:
        integer = node.op_type.startswith("Q")  # QuantizeLinear, QLinearConv, QGemm
        if node.op_type in _MOVES:
            integer = node.input[0] in integers
        if integer and node.op_type != "DequantizeLinear":
            integers.update(node.output)
        elif node.op_type not in _LAYOUT:
            floats[node.op_type] += 1
    return floats


def _confirm_openvino(placement: Placement, path: Path) -> Confirmation:
    """By the precision of the node into which the plugin put each operator; what it fused away is left aside."""
    ov = require_silent("openvino", extra="agent-openvino")
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = ov.Core().compile_model(str(path), "CPU", settings)
    precision: dict[str, str] = {}
    for node in compiled.get_runtime_model().get_ordered_ops():
        facts = node.get_rt_info()
        for name in facts["originalLayersNames"].astype(str).split(","):
            precision[name] = facts["runtimePrecision"].astype(str)
    known = [op for op in placement.ops if op.name in precision and op.verdict in ("accelerator", "cpu")]
    wrong = [op for op in known if (op.verdict == "accelerator") != (precision[op.name] in ("i8", "u8"))]
    return Confirmation(
        runtime=f"OpenVINO {version('openvino')}",
        counted="operators in 8 bits",
        predicted=sum(op.verdict == "accelerator" for op in known),
        found=sum(precision[op.name] in ("i8", "u8") for op in known),
        differing=[f"{op.kind} {op.number}" for op in wrong],
    )
