"""The MQTT route, on a real broker: retained while open, taken away after."""

from __future__ import annotations

import threading

import msgspec
import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from device_agent.contract.alert import Alert
from fleet.routes import Item, NotTaken
from fleet.routes.message import write_digest, write_notice
from fleet.routes.settings import RouteSettings, Wiring
from fleet.routes.topic import TopicRoute


def route(url, **options):
    return TopicRoute(Wiring(settings=RouteSettings(name="bus", kind="mqtt", **options), url=url))


def retained(broker, eventually):
    """Alerts that a newcomer finds on the broker."""
    found, there = {}, threading.Event()
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.on_message = lambda _client, _data, message: found.update({message.topic: message.payload})
    client.on_subscribe = lambda *_: there.set()
    client.connect(broker.host, broker.port)
    client.subscribe([("lineside/1/fleet/alert/#", 1), ("end", 1)])
    client.loop_start()
    eventually(there.is_set)
    client.publish("end", b"x", qos=1)
    eventually(lambda: found.pop("end", None))
    client.disconnect()
    client.loop_stop()
    return found


@pytest.mark.broker
def test_an_alert_is_retained_while_it_is_open(mosquitto, eventually, alert_of):
    bus = route(mosquitto.url)
    bus.take(write_digest([Item("opened", alert_of(id=f"a{k}", site="hall/2")) for k in range(300)], 0))
    found = retained(mosquitto, eventually)
    assert len(found) == 300
    assert msgspec.json.decode(found["lineside/1/fleet/alert/hall_2/a7"], type=Alert).id == "a7"
    closed = [Item("closed", alert_of(id=f"a{k}", site="hall/2", closed_ms=1)) for k in range(1, 300)]
    bus.take(write_digest(closed, 0))
    bus.take(write_notice(Item("inhibited", alert_of(id="a0", site="hall/2", inhibited_by="s1")), 0))
    assert retained(mosquitto, eventually) == {}


def test_a_broker_that_is_away_or_silent_is_said_in_words(free_port, alert_of):
    notice = write_notice(Item("opened", alert_of()), 0)
    with pytest.raises(NotTaken, match=rf"mqtt://127.0.0.1:{free_port}: connection refused"):
        route(f"mqtt://user:secret@127.0.0.1:{free_port}").take(notice)
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(NotTaken, match="does not answer in time"):
        route(f"mqtt://127.0.0.1:{server.getsockname()[1]}", timeout_s=0.2).take(notice)
