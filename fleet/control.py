"""What the fleet asks of a device: signed here, sent through the broker, and the device's answer waited for."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from device_agent.contract import topics
from device_agent.contract.broker import Broker, handshake_fault, parse_broker
from device_agent.contract.codec import SCHEMA, decode, encode, read_document_file
from device_agent.contract.control import Command, Config, Response
from device_agent.contract.credentials import Credentials
from device_agent.contract.errors import BadInput, NotFound, Unreachable
from device_agent.contract.files import write_whole
from device_agent.remote.settings import read_remote

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

EXPIRY_S = 30
CONNECT_S = 5.0


class NotTaken(Unreachable):
    """The broker did not take a message: the device cannot have heard of it (exit 5)."""


class Asked(msgspec.Struct, kw_only=True):
    """What a device was asked to be last: the growing version, and the settings."""

    schema: str = "1.0"
    version: int = 0
    settings: dict[str, Any] = {}


class Letter(NamedTuple):
    """A signed message, and the nonce that the answer to it will have."""

    kind: str
    payload: bytes
    nonce: bytes


def operator_broker(url: str, keys: Path) -> Broker:
    """The broker at a URL, with the operator's certificate of a folder of keys where it is reached by TLS.

    Raises:
        BadInput, NotFound: no such URL; no certificate there.
    """
    if not url.startswith("mqtts:"):
        return parse_broker(url)
    return parse_broker(url, Credentials(keys / "authority.pem", keys / "operator.pem", keys / "operator.key"))


def last_asked(keys: Path, device: str) -> Asked:
    """What a device was asked to be last; nothing if it never was.

    Raises:
        BadInput: no device id, or a damaged record.
    """
    return read_document_file(_record(keys, topics.check_device(device)), Asked) or Asked()


def configuration(
    keys: Path, device: str, change: Mapping[str, Any], now_s: float, *, after: int = 0
) -> tuple[Letter, Asked]:
    """The next configuration of a device: the last one with the changes, of which None takes a field away; its version
    is over `after`. `remember` it before it is sent, so that no version is given twice.

    Raises:
        NotFound, BadInput: no key to sign with, or a damaged record; settings that every device would refuse.
    """
    last = last_asked(keys, device)
    settings = {name: value for name, value in {**last.settings, **change}.items() if value is not None}
    read_remote(msgspec.json.encode(settings).decode())
    asked = Asked(version=max(int(now_s), last.version + 1, after + 1), settings=settings)
    config = Config(SCHEMA, asked.version, msgspec.json.encode(settings, order="sorted").decode())
    signature = _key(keys).sign(config.signed(device))
    return Letter("config", encode(msgspec.structs.replace(config, signature=signature)), config.nonce), asked


def remember(keys: Path, device: str, asked: Asked) -> None:
    """Keep what a device was asked to be."""
    write_whole(_record(keys, device), msgspec.json.encode(asked))


def command(keys: Path, device: str, name: str, arguments: str, now_s: float) -> Letter:
    """A command that holds for 30 s.

    Raises:
        NotFound, BadInput: no key to sign with.
    """
    topics.check_device(device)
    nonce = secrets.token_bytes(16)
    one = Command(SCHEMA, nonce, int((now_s + EXPIRY_S) * 1000), name, arguments, topics.up(device, "response"))
    signature = _key(keys).sign(one.signed(device))
    return Letter("command", encode(msgspec.structs.replace(one, signature=signature)), nonce)


def _record(keys: Path, device: str) -> Path:
    return keys / "configurations" / f"{device}.json"


def _key(keys: Path) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    path = keys / "signing.key"
    try:
        found = load_pem_private_key(path.read_bytes(), None)
    except FileNotFoundError:
        raise NotFound(f"{path}: no such file; lineside-fleet keys init makes it") from None
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: cannot be read as a key: {error}") from None
    if not isinstance(found, Ed25519PrivateKey):
        raise BadInput(f"{path}: is no Ed25519 key")
    return found


def send(broker: Broker, device: str, letter: Letter, timeout_s: float) -> Response | None:
    """Send, and wait for the device's answer; None if none came within the time.

    Raises:
        NotTaken: the broker does not answer, refuses, or did not take the message.
        Unreachable: the connection ended before the answer.
    """
    for protocol in (MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311):
        talk = _Talk(broker, device, letter, protocol)
        try:
            if talk.connected():
                return talk.answer(timeout_s)
        finally:
            talk.close()
    raise NotTaken(f"broker {broker}: {handshake_fault(broker) or talk.why or 'does not answer'}")


class _Talk:
    """One connection: subscribe to the device's answers, send, listen."""

    def __init__(self, broker: Broker, device: str, letter: Letter, protocol: MQTTProtocolVersion) -> None:
        self._device, self._letter = device, letter
        self._ready, self._answered = threading.Event(), threading.Event()
        self._response: Response | None = None
        self.why = self._ended = ""
        self._client = client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=f"lineside-operator-{secrets.token_hex(4)}", protocol=protocol,
            reconnect_on_failure=False,
        )  # fmt: skip
        if broker.user is not None:
            client.username_pw_set(broker.user, broker.password)
        if broker.tls:
            client.tls_set_context(broker.credentials.context())
        self._taken: Any = None
        client.on_publish, client.on_disconnect = self._on_publish, self._on_disconnect
        client.on_connect, client.on_subscribe, client.on_message = self._on_connect, self._on_subscribe, self._hear
        client.connect_async(broker.host, broker.port, 30)
        client.loop_start()

    def connected(self) -> bool:
        return self._ready.wait(CONNECT_S) and not self.why

    def answer(self, timeout_s: float) -> Response | None:
        five = self._client.protocol == MQTTProtocolVersion.MQTTv5 and self._letter.kind == "command"
        properties = None
        if five:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.MessageExpiryInterval = EXPIRY_S
            properties.ResponseTopic = topics.up(self._device, "response")
            properties.CorrelationData = self._letter.nonce
        topic, end = topics.down(self._device, self._letter.kind), time.monotonic() + timeout_s
        retain = self._letter.kind == "config"
        info = self._client.publish(topic, self._letter.payload, qos=1, retain=retain, properties=properties)
        try:
            info.wait_for_publish(timeout_s)
        except (RuntimeError, ValueError) as error:
            raise NotTaken(f"the broker did not take the message: {error}") from None
        if self._taken is not None and self._taken.is_failure:
            raise NotTaken(f"the broker did not take the message: {str(self._taken).lower()}")
        if not info.is_published():
            raise NotTaken(self._ended or "the broker did not take the message in time")
        self._answered.wait(max(0.0, end - time.monotonic()))
        if self._response is None and self._ended:
            raise Unreachable(f"{self._ended}; {self._device} may have done what it was asked")
        return self._response

    def _on_connect(self, client: mqtt.Client, _data: Any, _flags: Any, code: Any, _properties: Any) -> None:
        if code.is_failure:
            self.why = f"the broker refuses: {str(code).lower()}"
            self._ready.set()
        else:
            client.subscribe(topics.up(self._device, "response"), qos=1)

    def _on_subscribe(self, _client: mqtt.Client, _data: Any, _mid: int, codes: Any, _properties: Any) -> None:
        if any(code.is_failure for code in codes):
            self.why = "the broker does not let this user hear the answers"
        self._ready.set()

    def _on_publish(self, _client: mqtt.Client, _data: Any, _mid: int, code: Any, _properties: Any) -> None:
        self._taken = code

    def _on_disconnect(self, _client: mqtt.Client, _data: Any, _flags: Any, code: Any, _properties: Any) -> None:
        said = str(code).lower()
        self._ended = f"the connection ended before the answer ({said}): does another command use the same certificate?"
        self._answered.set()

    def _hear(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        try:
            response = decode(bytes(message.payload), Response)
        except BadInput:
            return
        if response.nonce == self._letter.nonce and not message.retain:
            self._response = response
            self._answered.set()

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
