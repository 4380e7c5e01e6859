"""Where a graph is cut into pieces when an accelerator runs some of its operators and the CPU the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from converters.tflite_file import Graph
from device_agent.contract.errors import BadInput


class Piece(NamedTuple):
    """Operators that run in one go, by number, and whether on the accelerator."""

    accelerated: bool
    operators: list[int]


def cut(graph: Graph, accelerated: Sequence[bool]) -> list[Piece]:
    """Pieces in the order of execution.

    TensorFlow Lite's rule for delegates: the first operator whose inputs are there decides who runs the next piece, and
    the piece takes every operator of that kind that can run once it has begun.

    Args:
        graph: operators in the order of execution.
        accelerated: for each operator whether the accelerator can run it.

    Raises:
        BadInput: an operator waits for what only it, or one that waits for it, makes.
    """
    there = {number for number in range(len(graph.tensors)) if number not in graph.maker} | {-1}
    waiting, pieces = list(range(len(graph.operators))), list[Piece]()
    while waiting:
        first = next((each for each in waiting if there.issuperset(graph.operators[each].inputs)), None)
        if first is None:
            raise BadInput(f"operator {waiting[0]} waits for itself: the graph is damaged")
        piece = Piece(accelerated[first], [])
        left: list[int] = []
        for number in waiting:  # in the order of execution, so that one pass finds all that becomes ready
            ready = there.issuperset(graph.operators[number].inputs)
            if ready and accelerated[number] == piece.accelerated:
                piece.operators.append(number)
                there.update(graph.operators[number].outputs)
            else:
                left.append(number)
        waiting = left
        pieces.append(piece)
    return pieces
