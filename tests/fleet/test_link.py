"""Addresses of brokers."""

from __future__ import annotations

import pytest

from device_agent.contract.errors import BadInput
from fleet.link import Broker


@pytest.mark.parametrize(
    "url", ["", "localhost", "http://localhost", "mqtt://", "mqtt://h:port", "mqtt://h/topic", "mqtt://["]
)
def test_what_is_no_address_is_refused(url):
    with pytest.raises(BadInput, match="is no address; mqtt://localhost:1883"):
        Broker.parse(url)


def test_an_address_is_read_and_its_password_never_shown():
    broker = Broker.parse("mqtts://line:p%40ss@hub.example")
    assert broker == ("hub.example", 8883, True, "line", "p@ss")
    assert str(broker) == "mqtts://hub.example:8883"
