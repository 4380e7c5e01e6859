"""Each condition of a rule: what meets it, what does not, and what is said then."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from converters.op_conditions import find_failing
from converters.rule_file import OpRule
from converters.tflite_file import Graph, Operator, Tensor


def tensor(
    shape: tuple[int, ...], dtype: str = "int8", *, scale: Any = (1.0,), zero: Any = (0,), data: Any = None
) -> Tensor:
    return Tensor("t", shape, dtype, np.asarray(scale, np.float32), np.asarray(zero, np.int64), 0, data)


def operator(*tensors: Tensor, kind: str = "OP", version: int = 1, **options: Any) -> tuple[Graph, Operator]:
    """An operator that reads all but the last tensor and makes the last."""
    count = len(tensors)
    made = Operator(kind, version, tuple(range(count - 1)), (count - 1,), options)
    return Graph(tensors, (made,), (0,), (count - 1,)), made


MAP = tensor((1, 4, 4, 8))
CONSTANT = tensor((8, 8), data=np.zeros((8, 8), np.int8))
CASES: list[tuple[OpRule, tuple[Graph, Operator], tuple[Graph, Operator], str]] = [
    (
        OpRule(version_max=5),
        operator(MAP, MAP, version=5),
        operator(MAP, MAP, version=6),
        "version 6, at most 5 is taken",
    ),
    (
        OpRule(dtypes=["int8"]),
        operator(MAP, tensor((8,), "int32", data=np.zeros(8, np.int32)), MAP),  # a constant may be of another dtype
        operator(MAP, tensor((1, 4, 4, 8), "float32")),
        "float32, where int8 is demanded",
    ),
    (
        OpRule(reads=["int8"]),
        operator(MAP, tensor((8,), "float32")),
        operator(tensor((8,), "float32"), MAP),
        "reads float32",
    ),
    (
        OpRule(alike=[1]),
        operator(MAP, CONSTANT, MAP),
        operator(tensor((8,), "float32"), CONSTANT, MAP),
        "1 is int8, its first",
    ),
    (OpRule(static=True), operator(MAP, MAP), operator(tensor((-1, 4, 4, 8)), MAP), r"open shape \?x4x4x8"),
    (OpRule(rank=[4, 5]), operator(MAP, MAP), operator(tensor((1, 8)), MAP), "2 dimensions, where 4 or 5 are demanded"),
    (OpRule(constants=[1]), operator(MAP, CONSTANT, MAP), operator(MAP, MAP, MAP), "its input 1 is computed"),
    (
        OpRule(scales="tensor"),
        operator(tensor((1, 8), scale=np.ones(8)), CONSTANT, MAP),  # of constants alone
        operator(MAP, tensor((8, 8), scale=np.ones(8), data=np.zeros((8, 8), np.int8)), MAP),
        "a scale a channel",
    ),
    (OpRule(zero_points="every"), operator(MAP, MAP), operator(MAP, tensor((8,), zero=(3,))), "not 0"),
    (
        OpRule(zero_points="second"),
        operator(tensor((8,), zero=(3,)), MAP, MAP),
        operator(MAP, tensor((8,), zero=(3,)), MAP),
        "not 0",
    ),
    (OpRule(varying_dims=3), operator(MAP, MAP), operator(tensor((2, 4, 4, 8)), MAP), "2x4x4x8: only the 3 innermost"),
    (
        OpRule(axes=[1, 2]),
        operator(MAP, tensor((2,), "int32", data=np.array([1, -2], np.int32)), MAP),
        operator(MAP, tensor((1,), "int32", data=np.array([-1], np.int32)), MAP),
        "along axis 3, where 1 or 2 is demanded",
    ),
    (
        OpRule(axes=[1, 2]),  # padding: two amounts a dimension
        operator(MAP, tensor((4, 2), "int32", data=np.array([[0, 0], [1, 1], [0, 1], [0, 0]])), MAP),
        operator(MAP, tensor((4, 2), "int32", data=np.array([[0, 0], [1, 1], [0, 1], [0, 2]])), MAP),
        "along axis 3",
    ),
    (OpRule(elements_max=128), operator(MAP, MAP), operator(tensor((1, 129)), MAP), "129 elements, at most 128"),
    (OpRule(inputs_max=2), operator(MAP, MAP, MAP), operator(MAP, MAP, MAP, MAP), "3 inputs, at most 2"),
    (
        OpRule(options={"beta": [1.0]}),
        operator(MAP, MAP, beta=1.0),
        operator(MAP, MAP, beta=2.0),
        "beta is 2.0, where 1.0",
    ),
    (OpRule(same=["w", "h"]), operator(MAP, MAP, w=2, h=2), operator(MAP, MAP, w=2, h=1), "w and h differ"),
    (
        OpRule(ratio=[0.5, 2.0]),
        operator(tensor((8,), scale=(0.5,)), MAP),  # the first bound is in, the second is not
        operator(tensor((8,), scale=(2.0,)), MAP),
        "is outside of 0.5 to 2",
    ),
    (
        OpRule(product_ratio=[0.5, 2.0]),
        operator(tensor((8,), scale=(2.0,)), tensor((8,), scale=(0.25,)), MAP),
        operator(tensor((8,), scale=(2.0,)), MAP, MAP),
        "product of the inputs' scales",
    ),
]


@pytest.mark.parametrize(("rule", "good", "bad", "said"), CASES)
def test_a_condition(rule: OpRule, good: tuple[Graph, Operator], bad: tuple[Graph, Operator], said: str) -> None:
    assert find_failing(*good, rule, OpRule()) is None
    failing = find_failing(*bad, rule, OpRule())
    assert failing is not None and re.search(said, failing.sentence)
    assert getattr(rule, failing.condition) is not None


def test_every_condition_is_tested() -> None:
    tested = {
        name for rule, *_ in CASES for name in rule.__struct_fields__ if getattr(rule, name) != getattr(OpRule(), name)
    }
    other = {"verdict", "otherwise", "like_maker", "reason", "fix"}
    assert tested == set(OpRule.__struct_fields__) - other


def test_what_the_rule_leaves_open_holds_for_every_operator() -> None:
    graph, made = operator(tensor((1, 8), "float32"), MAP)
    every = OpRule(dtypes=["int8"])
    assert find_failing(graph, made, OpRule(), every) is not None
    assert find_failing(graph, made, OpRule(dtypes=["int8", "float32"]), every) is None


def test_a_constant_that_is_widened_is_one() -> None:
    """Files of fp16 weights: DEQUANTIZE gives the convolution its weights, and the delegate reads through it."""
    half = tensor((8, 8), "float16", data=np.zeros((8, 8), np.float16))
    wide, made = tensor((8, 8), "float32"), tensor((1, 8), "float32")
    ops = (Operator("DEQUANTIZE", 1, (0,), (1,), {}), Operator("OP", 1, (2, 1), (3,), {}))
    graph = Graph((half, wide, tensor((1, 8), "float32"), made), ops, (2,), (3,))
    assert find_failing(graph, ops[1], OpRule(constants=[1]), OpRule()) is None
