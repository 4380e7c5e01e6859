"""Addresses of triggers, pins, topics and sensors."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from paho.mqtt.publish import single

from device_agent.contract.errors import BadInput, Unreachable
from device_agent.triggers import Fired, Trigger, open_trigger, parse_trigger
from device_agent.triggers.firings import Firings
from device_agent.triggers.gpio import GpioTrigger
from device_agent.triggers.sensor import moments

Eventually = Callable[..., object]


@pytest.mark.parametrize(
    ("text", "kind", "target", "options"),
    [
        ("gpio:17", "gpio", "17", {}),
        ("gpio:4:bounce_ms=20,pull=down", "gpio", "4", {"bounce_ms": "20", "pull": "down"}),
        ("every:0.5", "every", "0.5", {}),
        ("every:2:delay_ms=40", "every", "2", {"delay_ms": "40"}),
        ("sensor", "sensor", "", {}),
        ("sensor:parts_per_minute=30,jitter=0.1", "sensor", "", {"parts_per_minute": "30", "jitter": "0.1"}),
        ("mqtt://plc:x@h:1884/line/1/part", "mqtt", "mqtt://plc:x@h:1884/line/1/part", {}),
        ("mqtt://h/part?delay_ms=40&within_ms=500", "mqtt", "mqtt://h/part", {"delay_ms": "40", "within_ms": "500"}),
    ],
)  # fmt: skip
def test_an_address_is_read(text: str, kind: str, target: str, options: dict[str, str]) -> None:
    assert parse_trigger(text) == (kind, target, options)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must begin with gpio:, mqtt://, every: or sensor"),
        ("pin:17", "trigger 'pin:17': must begin with gpio:"),
        ("gpio:", "trigger gpio: must read like gpio:17"),
        ("gpio:54", "must read like gpio:17"),
        ("gpio:-1", "must read like gpio:17"),
        ("gpio:17:bounce_ms=2000", "bounce_ms"),
        ("gpio:17:edge=up", "unknown field `edge`; options are"),
        ("gpio:17:pull=none", "pull"),
        ("every:", "must read like every:2"),
        ("every:0", "must read like every:2"),
        ("every:nan", "must read like every:2"),
        ("every:2:jitter=0.1", "unknown field `jitter`"),
        ("sensor:30", "must read like sensor:parts_per_minute=30"),
        ("sensor:parts_per_minute=0", "parts_per_minute"),
        ("sensor:jitter=0.5", "jitter"),
        ("sensor:within_ms=0", "within_ms"),
        ("mqtt://localhost", "a topic without . and # must follow"),
        ("mqtt://localhost/+/part", "a topic without . and # must follow"),
        ("mqtt://u:geheim@localhost:0/part", "must read like mqtt://host:1883"),
        ("mqtt://u:geheim@localhost/part?qos=1", "trigger mqtt://localhost/part: .*unknown field `qos`"),
        ("http://u:geheim@localhost/part", "must begin with gpio:"),
    ],
)  # fmt: skip
def test_an_address_that_is_none_is_refused(text: str, said: str) -> None:
    with pytest.raises(BadInput, match=said) as caught:
        parse_trigger(text)
    assert "geheim" not in str(caught.value)


def test_parts_are_told_at_once_numbered_and_delayed_until_they_are_before_the_camera() -> None:
    from device_agent.triggers import Options

    told: list[Fired] = []
    trigger = Firings(told.append, Options(delay_ms=40), clock=lambda: 1_000_000_000)
    for _ in range(3):
        trigger.fire()
    assert told == [Fired(1_040_000_000, number) for number in range(3)]
    assert [trigger.wait(0) for _ in range(4)] == [*told, None]


@pytest.fixture
def board() -> Iterator[Any]:
    """gpiozero with pins that a test drives."""
    devices = pytest.importorskip("gpiozero", reason="package: gpiozero not installed").Device
    from gpiozero.pins.mock import MockFactory

    before, devices.pin_factory = devices.pin_factory, MockFactory()
    yield devices.pin_factory
    devices.pin_factory.reset()
    devices.pin_factory = before


class Contact:
    """A pin that a test drives, with a clock of its own; low is active."""

    def __init__(self, board: Any, text: str = "gpio:17:bounce_ms=5") -> None:
        self.now_ns = 10**12
        self.told: list[int] = []
        self.trigger = GpioTrigger(
            parse_trigger(text),
            lambda fired: self.told.append((fired.at_ns - 10**12) // 1_000_000),
            lambda *_: None,
            None,  # type: ignore[arg-type]
            clock=lambda: self.now_ns,
        )
        self.pin = board.pin(17)

    def at(self, ms: float, active: bool) -> None:
        self.now_ns = 10**12 + int(ms * 1e6)
        (self.pin.drive_low if active else self.pin.drive_high)()


def test_each_part_before_the_light_barrier_is_one_part_however_the_contact_bounces(board: Any) -> None:
    contact = Contact(board)
    for part_ms in (100, 1100, 2100):
        for ms, active in ((0, True), (0.4, False), (0.9, True), (300, False), (300.3, True), (301, False)):
            contact.at(part_ms + ms, active)
    assert contact.told == [100, 1100, 2100]
    contact.trigger.close()


def test_with_the_resistor_down_a_part_pulls_up(board: Any) -> None:
    contact = Contact(board, "gpio:17:pull=down")
    contact.at(100, False)
    contact.at(200, True)
    contact.at(300, False)
    assert contact.told == [100, 300]


def test_a_pin_is_let_go_and_one_that_is_taken_is_said(board: Any) -> None:
    contact = Contact(board)
    with pytest.raises(Unreachable, match=r"gpio pin 17: .*in use"):
        Contact(board)
    contact.trigger.close()
    Contact(board).trigger.close()


def test_a_sensor_keeps_its_pace_and_gives_the_same_parts_for_the_same_seed() -> None:
    some = list(itertools.islice(moments(60, 0.1, 3), 1000))
    assert (
        some == list(itertools.islice(moments(60, 0.1, 3), 1000)) != list(itertools.islice(moments(60, 0.1, 4), 1000))
    )
    assert all(abs(moment - number) <= 0.1 for number, moment in enumerate(some, 1))
    assert len({round(moment % 1, 6) for moment in some}) > 900


@pytest.mark.parametrize("text", ["every:0.01", "sensor:parts_per_minute=6000,jitter=0.4"])
def test_a_sensor_announces_parts_whatever_their_reader_does_and_ends(text: str, eventually: Eventually) -> None:
    told: list[Fired] = []
    trigger = open_trigger(parse_trigger(text), told.append, lambda *_: None)
    eventually(lambda: len(told) >= 5)
    trigger.close()
    ends = [thread for thread in threading.enumerate() if thread.name == "sensor"]
    for thread in ends:
        thread.join(5)
    assert not any(thread.is_alive() for thread in ends)
    heard = [trigger.wait(0) for _ in told]
    assert heard == told and [fired.number for fired in told] == list(range(len(told)))


@pytest.fixture
def opened(mosquitto: Any) -> Iterator[tuple[Trigger, list[tuple[str, str]]]]:
    events: list[tuple[str, str]] = []
    trigger = open_trigger(parse_trigger(f"{mosquitto.url}/line/part"), lambda _: None, lambda *one: events.append(one))
    yield trigger, events
    trigger.close()


@pytest.mark.broker
def test_each_message_is_a_part_and_a_retained_one_is_none(
    mosquitto: Any, opened: tuple[Trigger, list[tuple[str, str]]], eventually: Eventually
) -> None:
    address = {"hostname": mosquitto.host, "port": mosquitto.port}
    trigger, events = opened
    eventually(lambda: (single("line/part", b"", **address), trigger.wait(0.1))[1])
    while trigger.wait(0.2) is not None:
        continue
    single("line/part", b"old", retain=True, **address)
    first = trigger.wait(5)
    assert first is not None, "a message that is sent with the flag is new to those who listen already"
    mosquitto.kill()
    eventually(lambda: events)
    assert events[0][0] == "trigger_lost" and "line/part: the connection ended" in events[0][1]
    mosquitto.start()
    single("line/part", b"old", retain=True, **address)
    found = eventually(lambda: (single("line/part", b"x" * 10_000, **address), trigger.wait(0.1))[1], 20)
    assert found.number == first.number + 1  # type: ignore[attr-defined]


@pytest.mark.broker
def test_a_retained_message_announces_nothing(mosquitto: Any, eventually: Eventually) -> None:
    address = {"hostname": mosquitto.host, "port": mosquitto.port}
    single("line/part", b"old", retain=True, **address)
    told: list[Fired] = []
    trigger = open_trigger(parse_trigger(f"{mosquitto.url}/line/part"), told.append, lambda *_: None)
    eventually(lambda: trigger._client.is_connected())  # type: ignore[attr-defined]
    eventually(lambda: (single("line/part", b"new", qos=1, **address), told)[1])
    trigger.close()
    assert [fired.number for fired in told] == list(range(len(told)))
    single("line/part", b"", retain=True, **address)


def test_a_broker_that_is_away_is_said(free_port: int, eventually: Eventually) -> None:
    events: list[tuple[str, str]] = []
    trigger = open_trigger(
        parse_trigger(f"mqtt://u:geheim@127.0.0.1:{free_port}/part"), lambda _: None, lambda *one: events.append(one)
    )
    eventually(lambda: events)
    trigger.close()
    assert events == [("trigger_lost", f"mqtt://127.0.0.1:{free_port}/part: the broker does not answer")]
