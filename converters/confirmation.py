"""What a runtime itself does with a model, held against what the rules predict."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from converters.asking import ASK, Truth
from converters.op_rules import Placement
from device_agent.contract.errors import BadInput, MissingPackage

LIMIT_S = 120
_PACKAGES = {
    "litert": ("LiteRT", "ai-edge-litert"),
    "onnx": ("ONNX Runtime", "onnxruntime"),
    "openvino": ("OpenVINO", "openvino"),
}
_STEPS = {"QuantizeLinear", "DequantizeLinear"}


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


def confirm(placement: Placement, path: Path, runtime: str) -> Confirmation:
    """Load the file at `path` into `runtime`, in a process of its own, and look where its operators went.

    Raises:
        MissingPackage: the runtime is not installed.
        BadInput: no runtime that can be asked, or it cannot load the file.
    """
    if runtime not in ASK:
        raise BadInput(f"no runtime {runtime!r} that can be asked; known are {', '.join(ASK)}")
    name, package = _PACKAGES[runtime]
    try:
        named = f"{name} {version(package)}"
    except PackageNotFoundError:
        raise MissingPackage(f'{package} is not installed: pip install "lineside[agent-{runtime}]"') from None
    truth = _ask(path, runtime, named)
    return {"litert": _by_pieces, "onnx": _by_kinds, "openvino": _by_precision}[runtime](placement, truth, named)


def _ask(path: Path, runtime: str, named: str) -> Truth:
    command = [sys.executable, "-m", "converters.asking", runtime, str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, errors="replace", check=False)
    except subprocess.TimeoutExpired:
        raise BadInput(f"{path}: {named} was still loading it after {LIMIT_S} s") from None
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [""])[-1].lower()
        reason = f"it crashed with signal {-done.returncode}" if done.returncode < 0 else said
        raise BadInput(f"{path}: {named} cannot load it: {reason}")
    return msgspec.json.decode(done.stdout.strip().splitlines()[-1], type=Truth)


def _by_pieces(placement: Placement, truth: Truth, named: str) -> Confirmation:
    inside = set(truth.delegated)
    wrong = [op for op in placement.ops if (op.verdict == "accelerator") != (op.number in inside)]
    return Confirmation(
        runtime=named,
        counted="pieces in XNNPACK",
        predicted=placement.pieces,
        found=truth.pieces,
        differing=[f"{op.kind} {op.number}" for op in wrong],
    )


def _by_kinds(placement: Placement, truth: Truth, named: str) -> Confirmation:
    """Names do not survive ONNX Runtime's optimizer, so operators are counted by kind."""
    predicted = Counter(op.kind for op in placement.ops if op.verdict == "cpu" and op.kind not in _STEPS)
    found = Counter(truth.floats)
    return Confirmation(
        runtime=named,
        counted="operators in float32 between those in 8 bits",
        predicted=predicted.total(),
        found=found.total(),
        differing=sorted((predicted - found) + (found - predicted)),
    )


def _by_precision(placement: Placement, truth: Truth, named: str) -> Confirmation:
    known = [op for op in placement.ops if op.name in truth.precision and op.verdict in ("accelerator", "cpu")]
    there = {op.number for op in known if truth.precision[op.name] in ("i8", "u8")}
    wrong = [op for op in known if (op.verdict == "accelerator") != (op.number in there)]
    return Confirmation(
        runtime=named,
        counted="operators in 8 bits",
        predicted=sum(op.verdict == "accelerator" for op in known),
        found=len(there),
        differing=[f"{op.kind} {op.number}" for op in wrong],
    )
