"""Gates ask the bound that is in doubt, and say what was measured."""

from __future__ import annotations

import pytest

from device_agent.contract.errors import BadInput
from toolkit.evaluation.figures import Figure
from toolkit.evaluation.gates import Gate, judge_gates, parse_gate

FIGURES = {"macro-f1": Figure(0.95, 0.9, 0.98, 100, 50), "ece": Figure(0.02, 0.0, 0.05, 100, 50)}


@pytest.mark.parametrize("text", ["macro-f1", "=0.9", "macro-f1=", "macro-f1=1.1", "macro-f1=nan", "macro-f1=-0.1", ""])
def test_a_gate_without_a_limit_from_0_to_1_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match=r"must be like macro-f1=0\.95"):
        parse_gate(text, "min")


def test_a_class_may_have_an_equals_sign_in_its_name() -> None:
    assert parse_gate("recall.a=b=0.5", "min") == Gate("recall.a=b", "min", 0.5)


@pytest.mark.parametrize(
    ("gate", "on", "passed"),
    [
        (Gate("macro-f1", "min", 0.9), "bound", True),
        (Gate("macro-f1", "min", 0.93), "bound", False),
        (Gate("macro-f1", "min", 0.93), "value", True),
        (Gate("ece", "max", 0.05), "bound", True),
        (Gate("ece", "max", 0.03), "bound", False),
        (Gate("ece", "max", 0.03), "value", True),
        (Gate("ece", "max", 0.01), "value", False),
    ],
)
def test_a_minimum_asks_the_lower_and_a_maximum_the_upper_bound(gate: Gate, on: str, passed: bool) -> None:
    (found,) = judge_gates("a", FIGURES, [gate], on=on)  # type: ignore[arg-type]
    assert found.passed == passed
    assert ("<" in found.said() and ">" in found.said()) is False


def test_a_figure_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(BadInput, match=r"no figure 'recall\.rust'; there are macro-f1, ece"):
        judge_gates("a", FIGURES, [Gate("recall.rust", "min", 0.9)], on="bound")
