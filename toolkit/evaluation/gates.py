"""Figures that a model must reach: each is asked of the bound of its interval, or of its value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import msgspec

from device_agent.contract.errors import BadInput
from toolkit.evaluation.figures import Figure

On = Literal["bound", "value"]
Side = Literal["min", "max"]


class Gate(msgspec.Struct, frozen=True):
    """A figure by name, "min" or "max", and the limit in [0, 1]."""

    figure: str
    side: Side
    limit: float


class GateResult(msgspec.Struct, frozen=True, kw_only=True):
    """A gate and what was measured: the lower bound of the 95 % interval for a minimum, the upper one for a maximum, or
    the value itself."""

    artifact: str
    gate: Gate
    on: On
    measured: float
    passed: bool

    def said(self) -> str:
        """Such as "litert-int8 recall.crack 0.871 < 0.9 (lower bound)"."""
        bound = {"min": "lower bound", "max": "upper bound"}[self.gate.side] if self.on == "bound" else "value"
        sign = (
            {"min": "<", "max": ">"}[self.gate.side] if not self.passed else {"min": ">=", "max": "<="}[self.gate.side]
        )
        return f"{self.artifact} {self.gate.figure} {self.measured:.4g} {sign} {self.gate.limit:g} ({bound})"


def parse_gate(text: str, side: Side) -> Gate:
    """A gate from "NAME=LIMIT".

    >>> parse_gate("recall.crack=0.9", "min")
    Gate(figure='recall.crack', side='min', limit=0.9)

    Raises:
        BadInput: no "=", or a limit that is not 0 to 1.
    """
    name, sign, number = text.rpartition("=")
    try:
        limit = float(number)
    except ValueError:
        limit = math.nan
    if not sign or not name.strip() or not 0 <= limit <= 1:
        raise BadInput(f"--{side} must be like macro-f1=0.95 with a limit from 0 to 1, got {text!r}")
    return Gate(name.strip(), side, limit)


def judge_gates(artifact: str, figures: dict[str, Figure], gates: Sequence[Gate], *, on: On) -> list[GateResult]:
    """Each gate against the figures of one artifact.

    >>> gate, figures = Gate("accuracy", "min", 0.85), {"accuracy": Figure(0.9, 0.8, 0.95, 10, 10)}
    >>> judge_gates("a", figures, [gate], on="bound")[0].said()
    'a accuracy 0.8 < 0.85 (lower bound)'

    Raises:
        BadInput: a figure of another name, with those there are.
    """
    out = []
    for gate in gates:
        figure = figures.get(gate.figure)
        if figure is None:
            raise BadInput(f"{artifact}: no figure {gate.figure!r}; there are {', '.join(figures)}")
        measured = figure.value if on == "value" else (figure.low if gate.side == "min" else figure.high)
        passed = measured >= gate.limit if gate.side == "min" else measured <= gate.limit
        out.append(GateResult(artifact=artifact, gate=gate, on=on, measured=measured, passed=passed))
    return out
