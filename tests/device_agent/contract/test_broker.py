"""Addresses of brokers."""

from __future__ import annotations

import pytest

from device_agent.contract.broker import parse_broker
from device_agent.contract.errors import BadInput

WRONG = [
    "",
    "localhost",
    "http://x",
    "mqtt://",
    "mqtt://h:99999",
    "mqtt://h/topic",
    "mqtt://h:x",
    "mqtt://h?x=1",
    "mqtt://h?keepalive=5",
    "mqtt://h?keepalive=1e3",
    "mqtt://h?keepalive=20&x=1",
    "mqtt://[",
    "mqtt://h:0",
    "mqtt://:secret@h",
    "mqtt://h#part",
    "mqtt://a..b",
    f"mqtt://{'a' * 64}",
    "mqtt://a b",
    "mqtt://a%00b\0",
    "mqtt://\udcff",
    "mqtt://\udcff:x@h",
]


@pytest.mark.parametrize("url", WRONG)
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(BadInput, match="must read like"):
        parse_broker(url)


def test_an_address_is_read_whole() -> None:
    broker = parse_broker("mqtts://line:p%40ss@hub.example")
    assert broker[:5] == ("hub.example", 8883, "line", "p@ss", True)
    assert str(broker) == "mqtts://hub.example:8883"
    assert parse_broker("mqtt://[::1]").port == 1883


@pytest.mark.parametrize("wrong", ["mqtt://press:geheim@10.0.0.5:port", "mqtts:press:geheim@10.0.0.5", "geheim@h/x@y"])
def test_a_password_is_never_shown(wrong: str) -> None:
    broker = parse_broker("mqtts://press:geheim@10.0.0.5:8884")
    assert "geheim" not in f"{broker} {broker!r}" and broker.password == "geheim"
    with pytest.raises(BadInput) as failed:
        parse_broker(wrong)
    assert "geheim" not in str(failed.value)
