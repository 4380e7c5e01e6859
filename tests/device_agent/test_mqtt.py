"""Connections to a real broker: what is heard of the ack topic, passwords, TLS."""

from __future__ import annotations

import datetime
import ipaddress
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from paho.mqtt.publish import single

from device_agent.contract import topics
from device_agent.contract.broker import parse_broker
from device_agent.contract.errors import Unreachable
from device_agent.mqtt import Acknowledged, Connected, Disconnected, Link, News, probe

pytestmark = pytest.mark.broker
Eventually = Callable[..., object]


@pytest.fixture
def heard() -> list[News]:
    return []


@pytest.fixture
def link(heard: list[News]) -> Iterator[Callable[[str], Link]]:
    """`link(url)`: a connection that was begun; what comes of it is in `heard`."""
    opened: list[Link] = []

    def begin(url: str) -> Link:
        opened.append(Link(parse_broker(url), "press-1", heard.append))
        opened[-1].open(b"will")
        return opened[-1]

    yield begin
    for one in opened:
        one.close(0.0)


def test_acknowledgements_that_are_retained_or_too_long_are_not_heard(
    mosquitto: Any, link: Callable[[str], Link], heard: list[News], eventually: Eventually
) -> None:
    topic, address = topics.down("press-1", "ack"), {"hostname": mosquitto.host, "port": mosquitto.port}
    single(topic, b"kept", retain=True, **address)
    link(mosquitto.url)
    eventually(lambda: Connected() in heard)

    def live() -> bool:
        for payload in (b"x" * 65, b"y" * 100_000, b"live"):
            single(topic, payload, **address)
        return Acknowledged(b"live") in heard

    eventually(live)
    assert {news.payload for news in heard if isinstance(news, Acknowledged)} == {b"live"}
    assert not any(isinstance(news, Disconnected) for news in heard)


def test_large_messages_are_not_even_sent_to_it(
    mosquitto: Any,
    link: Callable[[str], Link],
    heard: list[News],
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("device_agent.mqtt.MAX_ACK_BYTES", 1 << 20)
    link(mosquitto.url)
    eventually(lambda: Connected() in heard)

    def live() -> bool:
        for payload in (b"y" * 100_000, b"live"):
            single(topics.down("press-1", "ack"), payload, hostname=mosquitto.host, port=mosquitto.port)
        return Acknowledged(b"live") in heard

    eventually(live)
    assert {news.payload for news in heard if isinstance(news, Acknowledged)} == {b"live"}


def test_user_and_password_are_given(
    mosquitto: Any, link: Callable[[str], Link], heard: list[News], eventually: Eventually
) -> None:
    words = mosquitto.folder / "words"
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(words), "press-1", "pa ss"], check=True, capture_output=True)
    words.chmod(0o644)
    restart(mosquitto, "allow_anonymous true", f"allow_anonymous false\npassword_file {words}")
    assert probe(parse_broker(f"mqtt://press-1:pa%20ss@127.0.0.1:{mosquitto.port}"), "press-1") == "5"
    with pytest.raises(Unreachable, match="not authorized"):
        probe(parse_broker(f"mqtt://press-1:other@127.0.0.1:{mosquitto.port}"), "press-1")
    link(f"mqtt://press-1:pa%20ss@127.0.0.1:{mosquitto.port}")
    eventually(lambda: Connected() in heard)


def test_tls_trusts_the_system_and_nobody_else(
    mosquitto: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    authority, certificate, key = write_certificates(tmp_path)
    restart(mosquitto, "allow_anonymous true", f"allow_anonymous true\ncertfile {certificate}\nkeyfile {key}")
    broker = parse_broker(f"mqtts://127.0.0.1:{mosquitto.port}")
    with pytest.raises(Unreachable):
        probe(broker, "press-1", timeout_s=2)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    assert probe(broker, "press-1") == "5"
    with pytest.raises(Unreachable):
        probe(broker._replace(tls=False), "press-1", timeout_s=2)


def restart(mosquitto: Any, old: str, new: str) -> None:
    mosquitto.stop()
    mosquitto.config.write_text(mosquitto.config.read_text().replace(old, new))
    mosquitto.start()


def write_certificates(folder: Path) -> tuple[Path, Path, Path]:
    """Files of an authority, and of the certificate and key that it gave to 127.0.0.1."""
    now = datetime.datetime.now(datetime.timezone.utc)
    root, leaf = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())

    def certify(name: str, key: Any, extension: x509.ExtensionType) -> bytes:
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "authority")])
        builder = x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now - datetime.timedelta(days=1))
        builder = builder.not_valid_after(now + datetime.timedelta(days=1))
        signed = builder.add_extension(extension, critical=False).sign(root, hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM)

    paths = folder / "ca.pem", folder / "broker.pem", folder / "broker.key"
    paths[0].write_bytes(certify("authority", root, x509.BasicConstraints(ca=True, path_length=None)))
    host = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    paths[1].write_bytes(certify("broker", leaf, host))
    plain = serialization.NoEncryption()
    paths[2].write_bytes(leaf.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    return paths
