"""Verdicts to a real broker that is there, goes, comes back, refuses, or does not read."""

from __future__ import annotations

import datetime
import ipaddress
import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from device_agent.contract.errors import BadInput
from device_agent.local_mqtt import parse_topic
from device_agent.outputs.line import open_line
from device_agent.outputs.mqtt import MqttTransport
from device_agent.outputs.sender import Sender
from device_agent.outputs.settings import LineSettings

Eventually = Callable[..., object]
TOPIC = "line/1/verdict"


@pytest.fixture
def listen() -> Iterator[Callable[[Any], list[Any]]]:
    """`listen(broker)`: what comes on the topic from now on."""
    clients = []

    def begin(broker: Any) -> list[Any]:
        heard: list[Any] = []
        client = Client(CallbackAPIVersion.VERSION2)
        client.reconnect_delay_set(1, 1)
        client.on_connect = lambda *_: client.subscribe(TOPIC)
        client.on_message = lambda _client, _data, message: heard.append((message.payload, message.qos, message.retain))
        client.connect(broker.host, broker.port)
        client.loop_start()
        clients.append(client)
        return heard

    yield begin
    for client in clients:
        client.disconnect()


def frames(heard: list[Any]) -> list[int]:
    return [json.loads(payload)["frame"] for payload, _, _ in heard]


@pytest.mark.broker
def test_verdicts_come_on_the_topic_and_go_on_when_the_broker_was_away(
    mosquitto: Any, listen: Any, events: Any, verdict: Any, eventually: Eventually
) -> None:
    heard = listen(mosquitto)
    line = open_line(LineSettings(mqtt=f"{mosquitto.url}/{TOPIC}"), events)
    eventually(lambda: (line.put(verdict(0, "review")), heard)[1])
    events.clear()
    for frame in range(1, 301):
        line.put(verdict(frame))
        if frame % 50 == 0:
            eventually(lambda frame=frame: frame in frames(heard))
    assert [frame for frame in frames(heard) if frame] == list(range(1, 301)) and events == []
    payload, qos, retained = heard[0]
    assert (json.loads(payload)["decision"], qos, retained) == ("review", 0, False)
    mosquitto.kill()
    sender: Any = line._outputs[0]
    before = sender.lost
    eventually(lambda: (line.put(verdict(1000)), sender.lost > before)[1])
    for frame in range(1000, 6000):
        line.put(verdict(frame))
    eventually(sender._waiting.empty)
    client = sender._transport._client
    assert len(client._out_packet) + len(client._out_messages) <= 2 and len(events) <= 1
    mosquitto.start()
    heard.clear()
    eventually(lambda: (line.put(verdict(7000)), heard)[1], 30)
    line.close()
    assert set(frames(heard)) == {7000}, "what was decided while the broker was away must not come later"


@pytest.mark.broker
def test_a_broker_that_refuses_is_said_in_its_words(
    mosquitto: Any, events: Any, verdict: Any, eventually: Eventually
) -> None:
    mosquitto.stop()
    mosquitto.config.write_text(mosquitto.config.read_text().replace("allow_anonymous true", "allow_anonymous false"))
    mosquitto.start()
    transport = MqttTransport(parse_topic(f"{mosquitto.url}/{TOPIC}"))
    eventually(lambda: "refuses" in transport._why)
    sender = Sender(transport, events)
    sender.put(verdict(0))
    sender.close(5.0)
    assert events == [("verdicts_lost", f"{mosquitto.url}/{TOPIC}: the broker refuses: not authorized")]


@pytest.mark.broker
def test_with_tls_the_authority_in_the_settings_is_trusted_and_nobody_else(
    mosquitto: Any, tmp_path: Path, events: Any, verdict: Any, eventually: Eventually
) -> None:
    certificate, key = write_certificate(tmp_path)
    mosquitto.stop()
    mosquitto.config.write_text(f"{mosquitto.config.read_text()}certfile {certificate}\nkeyfile {key}\n")
    mosquitto.start()
    url = f"mqtts://127.0.0.1:{mosquitto.port}/{TOPIC}"
    line = open_line(LineSettings(mqtt=url, mqtt_ca=str(certificate)), events)
    sender: Any = line._outputs[0]
    eventually(sender._transport._client.is_connected)
    line.put(verdict(0))
    line.close()
    assert events == []
    stranger = open_line(LineSettings(mqtt=url), events)
    eventually(lambda: (stranger.put(verdict(0)), any("not trusted" in text for _, text in told(stranger, events)))[1])
    stranger.close()


def told(line: Any, events: Any) -> Any:
    line._outputs[0]._lost.say()
    return events


def write_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that vouches for itself, and its key."""
    now, key = datetime.datetime.now(datetime.timezone.utc), ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "broker")])
    host = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(days=1))
    builder = builder.not_valid_after(now + datetime.timedelta(days=1)).add_extension(host, critical=False)
    paths = folder / "broker.pem", folder / "broker.key"
    paths[0].write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    for path in paths:
        path.chmod(0o644)
    return paths


def test_a_broker_that_does_not_read_costs_verdicts_and_no_memory(
    events: Any, verdict: Any, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("device_agent.outputs.mqtt.WRITE_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        transport = MqttTransport(parse_topic(f"mqtt://127.0.0.1:{server.getsockname()[1]}/{TOPIC}"))
        connection = server.accept()[0]
        connection.recv(4096)
        connection.sendall(bytes([0x20, 2, 0, 0]))
        eventually(transport._client.is_connected)
        sender = Sender(transport, events, most=50)
        big = verdict(0).__class__(0, "x" * 1_000_000, "good", 0.9, 2.0, 0)
        for _ in range(60):
            sender.put(big)
        eventually(lambda: sender.lost >= 40)
        assert len(transport._client._out_packet) <= 2
        assert "the broker does not read" in str(events) or "does not keep up" in str(events)
        connection.close()
    sender.close(1.0)


def test_a_user_and_a_password_are_not_shown() -> None:
    topic = parse_topic("mqtt://plc:geheim@localhost/a/b c")
    assert str(topic) == "mqtt://localhost:1883/a/b c" and topic.broker.password == "geheim"
    for url in (
        "mqtt://plc:geheim@localhost/",
        "mqtt://plc:geheim@localhost/+/x",
        "mqtt://plc:geheim@/x",
        "plc:geheim@",
    ):
        with pytest.raises(BadInput) as caught:
            parse_topic(url)
        assert "geheim" not in str(caught.value)
