"""Where each operator of a model runs on an accelerator, predicted from its rules: there, on the CPU, or nowhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from converters.macs import MULTIPLYING, macs, parameter_bytes
from converters.op_conditions import find_failing
from converters.partitions import Piece, cut
from converters.rule_file import OpRule, Rules, Verdict
from converters.tflite_file import Graph
from device_agent.contract.errors import BadInput

FORMATS = {".tflite": "tflite", ".onnx": "onnx", ".xml": "openvino"}
REFUSED = "the model is refused as a whole"
_BYTES = {"int8", "uint8"}


class OpPlace(msgspec.Struct, frozen=True, kw_only=True):
    """Where one operator runs, by its number in the order of execution, and why not on the accelerator. `name` is that
    of the tensor that it makes."""

    number: int
    kind: str
    name: str
    version: int
    verdict: Verdict
    reason: str = ""
    macs: int = 0


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of the graph that runs in one go: how many operators, the first of them, and their part of all MACs."""

    on_accelerator: bool
    first: int
    first_kind: str
    operators: int
    share: float


class Fix(msgspec.Struct, frozen=True, kw_only=True):
    """What to do about `operators` that do not run on the accelerator: with it, and the fixes listed before it, `share`
    of the MACs would, in `pieces` pieces."""

    what: str
    kind: str
    operators: int
    share: float
    pieces: int


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """What the rules predict for one model file.

    `pieces` run on the accelerator, `share` of the multiply-accumulates is in them; `refused` is why the accelerator's
    tool refuses the whole model, "" if it does not. `on_chip_bytes` of the parameters stay in the chip's memory and
    `streamed_bytes` are sent to it at every inference; None where the rules know of no such memory. `fixes` stand with
    the one that helps most first.
    """

    rules: str
    name: str
    tool: str
    here: str
    elsewhere: str
    operators: int
    on_accelerator: int
    pieces: int
    macs: int
    share: float
    refused: str = ""
    first_off: int | None = None
    parameter_bytes: int = 0
    on_chip_bytes: int | None = None
    streamed_bytes: int | None = None
    unknown: int = 0
    provenance: str = "predicted"
    fixes: list[Fix] = []
    segments: list[Segment] = []
    ops: list[OpPlace] = []


class _Finding(NamedTuple):
    verdict: Verdict
    reason: str = ""
    fix: str = ""


def format_of(path: Path) -> str:
    """The format of a model file, by the end of its name.

    Raises:
        BadInput: none that can be read.
    """
    if path.suffix not in FORMATS:
        raise BadInput(f"{path}: a model file ends in {', '.join(FORMATS)}")
    return FORMATS[path.suffix]


def read_model(path: Path) -> Graph:
    """The graph of a .tflite, .onnx or .xml file.

    Raises:
        NotFound: no such file.
        BadInput: not such a file, or damaged.
        MissingPackage: what reads the format is not installed.
    """
    from converters import onnx_file, openvino_file, tflite_file

    readers: dict[str, Callable[[Path], Graph]] = {
        "tflite": tflite_file.read_graph,
        "onnx": onnx_file.read_graph,
        "openvino": openvino_file.read_graph,
    }
    graph = readers[format_of(path)](path)
    for number, operator in enumerate(graph.operators):
        least = 2 if operator.kind in MULTIPLYING else 0
        there = all(-1 <= each < len(graph.tensors) for each in (*operator.inputs, *operator.outputs))
        if not there or not operator.outputs or min((*operator.outputs, *operator.inputs[:least])) < 0:
            raise BadInput(
                f"{path}: is damaged: operator {number}, {operator.kind}, reads or makes no tensor of the graph"
            )
        if len(operator.inputs) < least:
            raise BadInput(f"{path}: is damaged: operator {number}, {operator.kind}, has {len(operator.inputs)} inputs")
    return graph


def judge(graph: Graph, rules: Rules) -> Placement:
    """Where each operator of `graph` runs by the `rules` of its format."""
    findings = _findings(graph, rules)
    able = [each.verdict == "accelerator" for each in findings]
    refused = next((each.reason for each in findings if each.verdict == "stops"), "")
    costs = [macs(graph, operator) for operator in graph.operators]
    pieces = _pieces(graph, able, rules)
    there = set() if refused else {number for piece in pieces if piece.accelerated for number in piece.operators}
    total, moved = sum(costs), sum(costs[number] for number in there)
    parameters = sum(parameter_bytes(graph, graph.operators[number]) for number in there)
    room = None if rules.memory is None else int(rules.memory.parameters_mib * 2**20)
    left = REFUSED if refused else f"{rules.name} takes one piece only, this comes after it"
    ops = [
        _place(graph, number, each if number in there or not able[number] else _Finding("cpu", left), costs[number])
        for number, each in enumerate(findings)
    ]
    return Placement(
        rules=rules.id,
        name=rules.name,
        tool=rules.tool,
        here=rules.here,
        elsewhere=rules.elsewhere,
        operators=len(ops),
        on_accelerator=len(there),
        pieces=0 if refused else sum(piece.accelerated for piece in pieces),
        macs=total,
        share=round(moved / total, 4) if total else 0.0,
        refused=refused,
        first_off=next((number for number, fine in enumerate(able) if not fine), None),
        parameter_bytes=parameters,
        on_chip_bytes=None if room is None else min(parameters, room),
        streamed_bytes=None if room is None else max(parameters - room, 0),
        unknown=sum(each.verdict == "unknown" for each in findings),
        fixes=_fixes(graph, rules, findings, costs),
        segments=[_segment(graph, piece, costs, total) for piece in pieces],
        ops=ops,
    )


def is_quantized(graph: Graph) -> bool:
    """Whether any operator gives integers of 8 bits."""
    return any(graph.tensors[each].dtype in _BYTES for operator in graph.operators for each in operator.outputs)


def _findings(graph: Graph, rules: Rules) -> list[_Finding]:
    if rules.needs_quantized and graph.operators and not is_quantized(graph):
        reason = f"the model is not quantized: {rules.tool} takes integers only"
        return [_Finding("stops", reason, rules.needs_quantized_fix)] * len(graph.operators)
    findings: list[_Finding] = []
    for number in range(len(graph.operators)):
        findings.append(_find(graph, rules, number, findings))
    return findings


def _find(graph: Graph, rules: Rules, number: int, before: list[_Finding]) -> _Finding:
    """What becomes of one operator, given what was found of those before it."""
    operator = graph.operators[number]
    rule = _rule(rules, operator.kind)
    if rule is None:
        return _Finding(rules.default, f"{operator.kind}: {rules.default_reason}")
    if rule.verdict != "accelerator":
        reason = rule.reason or f"{operator.kind} is not among the operators of {rules.name}"
        return _Finding(rule.verdict, reason, rule.fix.get("verdict", ""))
    failing = find_failing(graph, operator, rule, rules.every)
    if failing is not None:
        verdict = rule.otherwise if getattr(rule, failing.condition) is not None else rules.every.otherwise
        verdict = "stops" if failing.condition == "version_max" else verdict
        fix = rule.fix.get(failing.condition) or rules.every.fix.get(failing.condition, "")
        return _Finding(verdict, f"{operator.kind}: {failing.sentence}", fix)
    source = operator.inputs[0] if operator.inputs else -1
    maker = graph.maker.get(source)
    if rule.like_maker and maker is not None and len(graph.readers[source]) == 1:
        found = before[maker]
        return found if found.verdict == "accelerator" else found._replace(reason=f"fused with {found.reason}")
    return _Finding("accelerator")


def _rule(rules: Rules, kind: str) -> OpRule | None:
    lists: dict[Verdict, list[str]] = {"accelerator": rules.accelerator, "cpu": rules.cpu, "stops": rules.stops}
    listed = next((OpRule(verdict=verdict) for verdict, kinds in lists.items() if kind in kinds), None)
    return rules.ops.get(kind, listed)


def _pieces(graph: Graph, able: list[bool], rules: Rules) -> list[Piece]:
    """The pieces; where only the first one can be taken, all that follows is one piece of the CPU's."""
    pieces = cut(graph, able)
    if rules.cut == "each":
        return pieces
    first = next((number for number, piece in enumerate(pieces) if piece.accelerated), len(pieces))
    rest = sorted(number for piece in pieces[first + 1 :] for number in piece.operators)
    return [*pieces[: first + 1], *([Piece(False, rest)] if rest else [])]


def _place(graph: Graph, number: int, finding: _Finding, cost: int) -> OpPlace:
    operator = graph.operators[number]
    return OpPlace(
        number=number,
        kind=operator.kind,
        name=graph.tensors[operator.outputs[0]].name,
        version=operator.version,
        verdict=finding.verdict,
        reason=finding.reason,
        macs=cost,
    )


def _segment(graph: Graph, piece: Piece, costs: list[int], total: int) -> Segment:
    first = piece.operators[0]
    part = sum(costs[number] for number in piece.operators)
    return Segment(
        on_accelerator=piece.accelerated,
        first=first,
        first_kind=graph.operators[first].kind,
        operators=len(piece.operators),
        share=round(part / total, 4) if total else 0.0,
    )


def _fixes(graph: Graph, rules: Rules, findings: list[_Finding], costs: list[int]) -> list[Fix]:
    """What can be done, in the order in which it helps: each is judged with those before it."""
    left, done, made = list(dict.fromkeys(each.fix for each in findings if each.fix)), set[str](), list[Fix]()
    while left:
        fixes = [_fix(graph, rules, findings, costs, done, what) for what in left]
        stopping = {each.fix for each in findings if each.verdict == "stops"} - done
        best = min(fixes, key=lambda fix: (fix.what not in stopping, -fix.share, fix.pieces))
        made.append(best)
        left.remove(best.what)
        done.add(best.what)
    return made


def _fix(graph: Graph, rules: Rules, findings: list[_Finding], costs: list[int], done: set[str], what: str) -> Fix:
    """The model with `what` done, and all that is in `done`."""
    able = [each.verdict == "accelerator" or each.fix in {*done, what} for each in findings]
    refused = any(each.verdict == "stops" and not fine for each, fine in zip(findings, able, strict=True))
    pieces = [piece for piece in _pieces(graph, able, rules) if piece.accelerated and not refused]
    moved = sum(costs[number] for piece in pieces for number in piece.operators)
    numbers = [number for number, each in enumerate(findings) if each.fix == what]
    return Fix(
        what=what,
        kind=graph.operators[numbers[0]].kind,
        operators=len(numbers),
        share=round(moved / (sum(costs) or 1), 4),
        pieces=len(pieces),
    )
