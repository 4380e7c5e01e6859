"""Judging graphs: by rules made up here, and the Edge TPU's on public models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from converters.op_rules import Placement, judge, read_model
from converters.rule_file import Memory, OpRule, Rules, load
from converters.tflite_file import Graph, Operator, Tensor
from device_agent.contract.errors import BadInput

NOTHING = np.empty(0, np.float32)
ONE, ZERO = np.ones(1, np.float32), np.zeros(1, np.int64)


def _dense(*kinds: str, width: int = 4) -> Graph:
    """A chain of operators (1, width) int8; a FULLY_CONNECTED reads its weights (width, width)."""
    tensors = [Tensor("in", (1, width), "int8", ONE, ZERO, 0, None)]
    operators = []
    for number, kind in enumerate(kinds):
        read = [len(tensors) - 1]
        if kind == "FULLY_CONNECTED":
            weights = np.ones((width, width), np.int8)
            tensors.append(Tensor(f"w{number}", weights.shape, "int8", ONE, ZERO, 0, weights))
            read.append(len(tensors) - 1)
        tensors.append(Tensor(f"t{number}", (1, width), "int8", ONE, ZERO, 0, None))
        operators.append(Operator(kind, 1, tuple(read), (len(tensors) - 1,), {}))
    return Graph(tuple(tensors), tuple(operators), (0,), (len(tensors) - 1,))


def _rules(**given: object) -> Rules:
    facts = {"id": "chip", "name": "the chip", "format": "tflite", "tool": "cc 1", "sources": ["here"], "here": "chip"}
    return Rules(**{"accelerator": ["FULLY_CONNECTED", "RELU"], "default": "cpu", **facts, **given})  # type: ignore[arg-type]


MIXED = _dense("FULLY_CONNECTED", "RELU", "SIN", "FULLY_CONNECTED", "COS", "FULLY_CONNECTED")


def test_pieces_shares_and_bytes() -> None:
    found = judge(MIXED, _rules())
    assert (found.operators, found.on_accelerator, found.pieces, found.first_off) == (6, 4, 3, 2)
    assert (found.macs, found.share, found.parameter_bytes) == (48, 1.0, 48)
    assert [(one.on_accelerator, one.first, one.operators) for one in found.segments] == [
        (True, 0, 2),
        (False, 2, 1),
        (True, 3, 1),
        (False, 4, 1),
        (True, 5, 1),
    ]


def test_one_piece_only_sends_the_rest_to_the_cpu() -> None:
    found = judge(MIXED, _rules(cut="first"))
    assert (found.on_accelerator, found.pieces, found.share) == (2, 1, round(1 / 3, 4))
    assert [op.verdict for op in found.ops] == ["accelerator"] * 2 + ["cpu"] * 4
    assert "takes one piece only" in found.ops[3].reason and len(found.segments) == 2


def test_what_does_not_fit_the_chip_is_streamed() -> None:
    found = judge(MIXED, _rules(memory=Memory(parameters_mib=40 / 2**20, source="data sheet")))
    assert (found.on_chip_bytes, found.streamed_bytes) == (40, 8)
    assert judge(MIXED, _rules()).on_chip_bytes is None


def test_fixes_come_in_the_order_in_which_they_help() -> None:
    """With one piece, COS is no use before SIN is gone."""
    sine, cosine = (OpRule(verdict="cpu", fix={"verdict": f"without {name}"}) for name in ("sine", "cosine"))
    fixes = judge(MIXED, _rules(cut="first", ops={"COS": cosine, "SIN": sine})).fixes
    assert [(fix.what, fix.share, fix.pieces) for fix in fixes] == [
        ("without sine", round(2 / 3, 4), 1),
        ("without cosine", 1.0, 1),
    ]


def test_an_operator_that_stops_refuses_the_model() -> None:
    stop = OpRule(verdict="stops", reason="COS is not parsed", fix={"verdict": "without cosine"})
    found = judge(MIXED, _rules(ops={"COS": stop}))
    assert (found.refused, found.on_accelerator, found.share, found.pieces) == ("COS is not parsed", 0, 0.0, 0)
    assert found.fixes[0].what == "without cosine" and found.fixes[0].share == 1.0


def test_a_version_that_is_too_new_stops_whatever_else_is_said() -> None:
    rule = OpRule(version_max=0, otherwise="cpu")
    found = judge(_dense("RELU"), _rules(accelerator=[], ops={"RELU": rule}))
    assert found.refused == "RELU: version 1, at most 0 is taken"


def test_what_the_rules_do_not_name_stays_unknown() -> None:
    found = judge(MIXED, _rules(default="unknown"))
    assert found.unknown == 2 and found.ops[2].verdict == "unknown" and "say nothing" in found.ops[2].reason


def test_a_fused_operator_runs_where_its_input_is_made() -> None:
    fused = {"RELU": OpRule(like_maker=True)}
    rules = _rules(accelerator=["FULLY_CONNECTED"], ops=fused)
    assert [op.verdict for op in judge(_dense("FULLY_CONNECTED", "RELU"), rules).ops] == ["accelerator"] * 2
    assert [op.verdict for op in judge(_dense("SIN", "RELU"), rules).ops] == ["cpu"] * 2


def test_a_model_without_integers_is_refused_as_a_whole() -> None:
    graph = _dense("RELU")
    floats = tuple(Tensor(one.name, one.shape, "float32", NOTHING, ZERO, 0, None) for one in graph.tensors)
    found = judge(Graph(floats, graph.operators, (0,), (1,)), _rules(needs_quantized=True))
    assert "not quantized" in found.refused


def test_what_is_no_model_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"a model file ends in .tflite, .onnx, .xml"):
        read_model(tmp_path / "model.h5")


def _edgetpu(path: Path) -> Placement:
    pytest.importorskip("ai_edge_litert")
    return judge(read_model(path), load("edgetpu"))


def test_the_public_model_that_was_compiled_is_taken_whole(weights_dir: Path) -> None:
    """Coral's compiler made one custom operator of it, SOFTMAX included: so must the rules."""
    compiled = read_model(weights_dir / "edgetpu" / "mobilenet_v1_0.25_128_quant_edgetpu.tflite")
    assert [op.kind for op in compiled.operators] == ["edgetpu-custom-op"]
    found = _edgetpu(weights_dir / "tflite" / "mobilenet_v1_0.25_128_quant.tflite")
    assert (found.on_accelerator, found.operators, found.pieces, found.refused) == (31, 31, 1, "")
    assert found.ops[-1].kind == "SOFTMAX" and found.macs == 13_570_304 and found.streamed_bytes == 0


def test_the_edge_tpu_takes_no_floats_and_no_open_batch(weights_dir: Path) -> None:
    assert "not quantized" in _edgetpu(weights_dir / "tflite" / "vww_96_float.tflite").refused
    opened = _edgetpu(weights_dir / "tflite" / "vww_96_int8.tflite")
    assert opened.on_accelerator == 0 and "open shape" in opened.ops[0].reason
