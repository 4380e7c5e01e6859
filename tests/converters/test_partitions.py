"""Cutting a graph: a chain, a branch that lets a piece go on past what it cannot take, a loop."""

from __future__ import annotations

import numpy as np
import pytest

from converters.partitions import cut
from converters.tflite_file import Graph, Operator, Tensor
from device_agent.contract.errors import BadInput


def _graph(*edges: tuple[tuple[int, ...], int]) -> Graph:
    """Operators as (tensors read, tensor made); tensor 0 is the input."""
    count = 1 + max(made for _, made in edges)
    empty = np.empty(0)
    tensors = tuple(Tensor(str(n), (1,), "int8", empty, empty, 0, None) for n in range(count))
    operators = tuple(Operator("OP", 1, read, (made,), {}) for read, made in edges)
    return Graph(tensors, operators, (0,), (count - 1,))


def test_a_chain_is_cut_at_every_change() -> None:
    chain = _graph(((0,), 1), ((1,), 2), ((2,), 3), ((3,), 4))
    pieces = cut(chain, [True, False, True, True])
    assert [(piece.accelerated, piece.operators) for piece in pieces] == [
        (True, [0]),
        (False, [1]),
        (True, [2, 3]),
    ]


def test_a_piece_takes_all_that_does_not_wait_for_the_cpu() -> None:
    """0 -> 1 (CPU) -> 3, and 0 -> 2 beside it: 2 runs in the first piece, though 1 comes before it."""
    branch = _graph(((0,), 1), ((1,), 2), ((1,), 3), ((2, 3), 4))
    pieces = cut(branch, [True, False, True, True])
    assert [piece.operators for piece in pieces] == [[0, 2], [1], [3]]


def test_nothing_that_can_be_taken_is_one_piece_of_the_cpu() -> None:
    pieces = cut(_graph(((0,), 1), ((1,), 2)), [False, False])
    assert [(piece.accelerated, len(piece.operators)) for piece in pieces] == [(False, 2)]


def test_an_input_that_is_left_out_is_waited_for_by_nobody() -> None:
    assert len(cut(_graph(((0, -1), 1)), [True])) == 1


def test_a_graph_that_bites_its_tail_is_refused() -> None:
    with pytest.raises(BadInput, match="waits for itself"):
        cut(_graph(((2,), 1), ((1,), 2)), [True, True])
