"""Pins of gpiozero's mock: pulses, levels, and where they are left."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from device_agent.contract.errors import MissingPackage, Unreachable
from device_agent.contract.review import Verdict
from device_agent.gpio import open_pin
from device_agent.outputs import NotTaken
from device_agent.outputs.deadline import no_answer
from device_agent.outputs.gpio import GpioTransport
from device_agent.outputs.line import open_line
from device_agent.outputs.sender import Sender
from device_agent.outputs.settings import LineSettings

PASS, REVIEW, REJECT, FAULT = 5, 6, 13, 19
PINS: Any = {"pass": PASS, "review": REVIEW, "reject": REJECT}


@pytest.fixture
def board() -> Iterator[Any]:
    """gpiozero with pins that only remember."""
    devices = pytest.importorskip("gpiozero", reason="package: gpiozero not installed").Device
    from gpiozero.pins.mock import MockFactory

    before, devices.pin_factory = devices.pin_factory, MockFactory()
    yield devices.pin_factory
    devices.pin_factory.reset()
    devices.pin_factory = before


def levels(board: Any) -> tuple[int, ...]:
    return tuple(int(board.pin(number).state) for number in (PASS, REVIEW, REJECT, FAULT))


def edges(board: Any, number: int) -> list[bool]:
    return [bool(state) for _, state in board.pin(number).states]


def test_each_decision_is_a_pulse_on_its_pin(board: Any, verdict: Any) -> None:
    transport = GpioTransport(PINS, FAULT, 1)
    for frame, decision in enumerate(["pass", "reject", "reject", "review"]):
        transport.send(verdict(frame, decision))
    counts = {number: edges(board, number).count(True) for number in (PASS, REVIEW, REJECT)}
    assert counts == {PASS: 1, REVIEW: 1, REJECT: 2}
    assert levels(board) == (0, 0, 0, 0)


def test_a_level_stays_until_another_decision_comes(board: Any, verdict: Any) -> None:
    transport = GpioTransport(PINS, FAULT, 0)
    seen = []
    for frame, decision in enumerate(["pass", "reject", "reject", "review"]):
        transport.send(verdict(frame, decision))
        seen.append(levels(board))
    assert seen == [(1, 0, 0, 0), (0, 0, 1, 0), (0, 0, 1, 0), (0, 1, 0, 0)]
    transport.send(no_answer(9, 0, None, "the breaker is open", "none", late=False))
    assert levels(board) == (0, 0, 0, 1)


def test_relays_that_pull_when_low_rest_high_and_the_fault_pin_stays_as_it_is(board: Any, verdict: Any) -> None:
    transport = GpioTransport(PINS, FAULT, 0, active_low=True)
    assert levels(board) == (1, 1, 1, 1)
    transport.send(verdict(0, "reject"))
    assert levels(board) == (1, 1, 0, 0)
    transport.close()
    assert edges(board, REJECT)[-1] and edges(board, FAULT)[-1]


def test_a_lost_camera_takes_the_last_answer_off_the_pins(board: Any, verdict: Any) -> None:
    line = open_line(
        LineSettings(gpio_pass=PASS, gpio_reject=REJECT, gpio_review=REVIEW, gpio_fault=FAULT, pulse_ms=0),
        lambda *_: None,
    )
    try:
        line.put(verdict(0, "pass"))
        deadline = time.monotonic() + 5
        while levels(board) != (1, 0, 0, 0) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert levels(board) == (1, 0, 0, 0)
        line.blind()
        assert levels(board) == (0, 0, 0, 1)
    finally:
        line.close()


def test_without_an_operating_point_the_label_decides(board: Any) -> None:
    transport = GpioTransport(PINS, None, 0)
    transport.send(Verdict(0, "scratch", "defect", 0.9, 2.0, 0))
    assert levels(board)[:3] == (0, 0, 1)


def test_fault_is_high_until_the_model_answers_and_whenever_it_does_not(board: Any, verdict: Any) -> None:
    transport = GpioTransport(PINS, FAULT, 0)
    seen = [levels(board)]
    for one in (
        verdict(0),
        no_answer(1, 0, None, "no answer within 50 ms", "reject", late=True),
        verdict(2),
        no_answer(3, 0, None, "the breaker is open", "review", late=False),
        replace(verdict(4), late=True),
    ):
        transport.send(one)
        seen.append(levels(board))
    assert [one[3] for one in seen] == [1, 0, 1, 0, 1, 1]
    assert [one[:3] for one in seen[2:5]] == [(0, 0, 1), (1, 0, 0), (0, 1, 0)]


def test_the_end_leaves_every_line_at_its_safe_level_even_within_a_pulse(board: Any, verdict: Any) -> None:
    pins = [board.pin(number) for number in (PASS, REVIEW, REJECT, FAULT)]
    transport = GpioTransport(PINS, FAULT, 10_000)
    sender = Sender(transport, lambda *_: None, most=1)
    sender.put(verdict(0, "reject"))
    deadline = time.monotonic() + 10
    while not pins[2].state and time.monotonic() < deadline:
        time.sleep(0.001)
    assert [bool(pin.state) for pin in pins] == [False, False, True, False]
    sender.close(0.05)
    sender._thread.join(10)
    assert not sender._thread.is_alive()
    assert [bool(pin.state) for pin in pins] == [False, False, False, True]


def test_decisions_that_come_faster_than_pulses_are_lost_and_said(board: Any, verdict: Any, events: Any) -> None:
    pin = board.pin(PASS)
    line = open_line(LineSettings(gpio_pass=PASS, gpio_fault=FAULT, pulse_ms=20), events)
    for frame in range(50):
        line.put(verdict(frame))
    line.close()
    assert 1 <= [bool(state) for _, state in pin.states].count(True) < 10
    assert events[0] == ("verdicts_lost", "gpio: does not keep up, 1 wait")


def test_a_pin_that_fails_costs_verdicts_and_stops_nothing(board: Any, verdict: Any) -> None:
    transport = GpioTransport(PINS, FAULT, 1)
    board.pin(PASS)._function = "input"
    with pytest.raises(NotTaken, match="a pin cannot be set"):
        transport.send(verdict(0, "pass"))
    transport.send(verdict(1, "reject"))
    assert edges(board, REJECT).count(True) == 1
    transport.close()


def test_pins_that_were_opened_are_let_go_when_another_cannot_be(board: Any) -> None:
    with pytest.raises(Unreachable, match="gpio pin 99: "):
        GpioTransport({"pass": PASS, "reject": 99}, None, 0)
    GpioTransport({"pass": PASS}, None, 0).close()
    with pytest.raises(Unreachable, match=r"gpio pin 5: .*in use"):
        GpioTransport({"pass": PASS, "reject": PASS}, None, 0)


def test_without_gpiozero_the_sentence_names_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gpiozero", None)
    with pytest.raises(MissingPackage, match=r'pip install "lineside\[gpio\]"'):
        open_pin("Button", 17)
