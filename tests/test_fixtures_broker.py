"""The brokers that other tests stand on."""

import threading

import paho.mqtt.client as mqtt
import pytest


def round_trip(host: str, port: int, eventually) -> bytes:
    got: list[bytes] = []
    ready = threading.Event()
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv311)
    client.on_subscribe = lambda *_: ready.set()
    client.on_message = lambda _client, _data, message: got.append(message.payload)
    client.connect(host, port)
    client.subscribe("a/b")
    client.loop_start()
    try:
        eventually(ready.is_set)
        client.publish("a/b", b"42", qos=1)
        eventually(lambda: got)
    finally:
        client.disconnect()
        client.loop_stop()
    return got[0]


@pytest.mark.broker
def test_mosquitto_carries_a_message_and_comes_back_on_its_port_after_a_kill(mosquitto, eventually):
    assert round_trip(mosquitto.host, mosquitto.port, eventually) == b"42"
    port = mosquitto.port
    mosquitto.kill()
    with pytest.raises(ConnectionRefusedError):
        round_trip(mosquitto.host, port, eventually)
    mosquitto.start()
    assert round_trip(mosquitto.host, port, eventually) == b"42"


def test_amqtt_carries_a_message(amqtt_broker, eventually):
    assert round_trip(amqtt_broker.host, amqtt_broker.port, eventually) == b"42"


def test_eventually_fails_in_the_end(eventually):
    with pytest.raises(pytest.fail.Exception, match="never"):
        eventually(lambda: False, 0.03, message="never")
