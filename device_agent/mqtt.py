"""MQTT through paho: one client for each connection, MQTT 5 first, 3.1.1 where a broker speaks nothing else."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

from paho.mqtt.client import (
    MQTT_CLEAN_START_FIRST_ONLY,
    CleanStartOption,
    Client,
    MQTTMessage,
    MQTTMessageInfo,
    MQTTv5,
    MQTTv311,
)
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from device_agent.contract import topics
from device_agent.contract.broker import Broker, handshake_fault
from device_agent.contract.errors import LinesideError, Unreachable

KEEPALIVE_S = 60
"""A connection over which nothing comes any more is given up, and another one made, within one and a half of these."""
SESSION_EXPIRY_S = 60
WILL_DELAY_S = 30
CONNECT_TIMEOUT_S = 5.0
MAX_PACKET_BYTES = 4096
MAX_ACK_BYTES = 64


class Connected(NamedTuple):
    """The broker took the connection."""


class Disconnected(NamedTuple):
    """The connection ended or could not be made; `refused` by the broker's own word."""

    why: str
    refused: bool = False


class Acknowledged(NamedTuple):
    """A message on the device's ack topic, neither retained nor over 64 bytes."""

    payload: bytes


class ConfigReceived(NamedTuple):
    """A message on the device's config topic."""

    payload: bytes


class CommandReceived(NamedTuple):
    """A message on the device's command topic; `retained` if the broker had kept it."""

    payload: bytes
    retained: bool


class Rejected(NamedTuple):
    """The broker did not take a message or a subscription."""

    why: str


News = Connected | Disconnected | Acknowledged | ConfigReceived | CommandReceived | Rejected


class Link:
    """Connections of one device, one after the other. What happens is handed to `tell` from another thread."""

    def __init__(self, broker: Broker, device: str, tell: Callable[[News], None]) -> None:
        self._broker, self._device, self._tell = broker, device, tell
        self._protocol: MQTTProtocolVersion = MQTTv5
        self._client: Client | None = None
        self._last: MQTTMessageInfo | None = None
        self._attempt = 0

    def open(self, will: bytes) -> None:
        """Begin one attempt to connect; `Connected` or `Disconnected` follows."""
        self._attempt += 1
        attempt, self._last = self._attempt, None
        try:
            client = make_client(self._broker, self._device, self._protocol)
        except LinesideError as error:  # its certificate is gone, or is being replaced
            self._tell(Disconnected(str(error)))
            return
        _Watch(
            client,
            self._broker,
            lambda news: self._hear(attempt, news),
            lambda: self._doubt_protocol(attempt),
            {topics.down(self._device, kind): kind for kind in ("ack", "config", "command")},
        )
        properties = _properties(self._protocol, PacketTypes.WILLMESSAGE, WillDelayInterval=WILL_DELAY_S)
        client.will_set(topics.up(self._device, "state"), will, qos=1, retain=True, properties=properties)
        self._client = client
        start(client, self._broker)

    def give_up(self) -> None:
        """End an attempt that was not answered. Some brokers do not even hang up at a version they do not speak."""
        client, self._client = self._client, None
        if client is not None:
            if client.socket() is not None:
                self._doubt_protocol(self._attempt)
            client.disconnect()
        self._attempt += 1

    def publish(
        self, kind: str, payload: bytes, *, qos: int, retain: bool = False, expiry_s: int | None = None
    ) -> None:
        """Send on the device's topic of this kind; lost silently if the connection has just ended."""
        if self._client is None:
            return
        expiry = {} if expiry_s is None else {"MessageExpiryInterval": expiry_s}
        properties = _properties(self._protocol, PacketTypes.PUBLISH, **expiry)
        topic = topics.up(self._device, kind)
        info = self._client.publish(topic, payload, qos=qos, retain=retain, properties=properties)
        self._last = info if qos else self._last

    def close(self, timeout_s: float) -> None:
        """Wait until the last message of QoS 1 has been taken, at most so long, and disconnect."""
        client, last = self._client, self._last
        self._client, self._attempt = None, self._attempt + 1
        if client is None:
            return
        if last is not None and client.is_connected():
            with suppress(RuntimeError, ValueError):  # it never left
                last.wait_for_publish(timeout_s)
        client.disconnect()

    def _hear(self, attempt: int, news: News) -> None:
        if attempt == self._attempt:
            self._tell(news)

    def _doubt_protocol(self, attempt: int) -> None:
        """The broker hung up at a CONNECT of this version: the other one is tried next, and kept if it works."""
        if attempt == self._attempt:
            self._protocol = MQTTv311 if self._protocol == MQTTv5 else MQTTv5


class _Watch:
    """Callbacks of one client; they run in paho's thread and only pass news on."""

    def __init__(
        self,
        client: Client,
        broker: Broker,
        hear: Callable[[News], None],
        doubt_protocol: Callable[[], None],
        listen_to: dict[str, str],
    ) -> None:
        self._broker, self._hear, self._doubt_protocol, self._listen_to = broker, hear, doubt_protocol, listen_to
        self._answered = self._over = False
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe

    def _end(self, why: str, *, refused: bool = False) -> None:
        if not self._over:
            self._over = True
            self._hear(Disconnected(why, refused))

    def _on_connect(self, client: Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        self._answered = True
        if not reason.is_failure:
            if self._listen_to:
                client.subscribe([(topic, 0 if kind == "ack" else 1) for topic, kind in self._listen_to.items()])
            self._hear(Connected())
        elif is_wrong_version(reason):
            self._doubt_protocol()
            self._end("the broker speaks another version of MQTT")
        else:
            self._end(f"the broker refuses: {str(reason).lower()}", refused=True)

    def _on_connect_fail(self, client: Client, _data: Any) -> None:
        fault = handshake_fault(self._broker)
        self._end(fault or "the broker does not answer", refused=bool(fault))
        client.disconnect()

    def _on_disconnect(self, _client: Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        fault = "" if self._answered else handshake_fault(self._broker)
        if not self._answered and not fault:
            self._doubt_protocol()
        self._end(fault or f"the connection ended: {str(reason).lower()}", refused=bool(fault))

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        kind, payload = self._listen_to.get(message.topic), bytes(message.payload[:MAX_PACKET_BYTES])
        if kind == "ack" and not message.retain and len(payload) <= MAX_ACK_BYTES:
            self._hear(Acknowledged(payload))
        elif kind == "config" and payload:  # an empty one only takes a retained one away
            self._hear(ConfigReceived(payload))
        elif kind == "command":
            self._hear(CommandReceived(payload, message.retain))

    def _on_publish(self, _client: Client, _data: Any, _mid: int, reason: ReasonCode, _properties: Any) -> None:
        if reason.is_failure:
            self._hear(Rejected(f"a message was not taken: {str(reason).lower()}"))

    def _on_subscribe(
        self, _client: Client, _data: Any, _mid: int, reasons: list[ReasonCode], _properties: Any
    ) -> None:
        for reason in reasons:
            if reason.is_failure:
                self._hear(Rejected(f"what the fleet says cannot be subscribed to: {str(reason).lower()}"))


def make_client(broker: Broker, client_id: str, protocol: MQTTProtocolVersion) -> Client:
    """A client that connects once, with the broker's user and TLS."""
    client = Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=protocol, reconnect_on_failure=False)
    client.connect_timeout = CONNECT_TIMEOUT_S
    if broker.user is not None:
        client.username_pw_set(broker.user, broker.password)
    if broker.tls:
        client.tls_set_context(broker.credentials.context())
    return client


def start(client: Client, broker: Broker) -> None:
    """Begin to connect, in a thread of the client's own."""
    protocol = client.protocol
    limits = {"SessionExpiryInterval": SESSION_EXPIRY_S, "MaximumPacketSize": MAX_PACKET_BYTES}
    properties = _properties(protocol, PacketTypes.CONNECT, **limits)
    clean: CleanStartOption = True if protocol == MQTTv5 else MQTT_CLEAN_START_FIRST_ONLY
    keepalive_s = (broker.keepalive_s or KEEPALIVE_S) // 3  # paho waits for two, and then it is waited to connect again
    client.connect_async(broker.host, broker.port, keepalive_s, clean_start=clean, properties=properties)
    client.loop_start()


def probe(broker: Broker, client_id: str, timeout_s: float = CONNECT_TIMEOUT_S) -> str:
    """The version of MQTT in which the broker takes a connection, "5" or "3.1.1".

    Raises:
        Unreachable: it does not answer in time, or refuses; the sentence says which.
    """
    why = "does not answer"
    for protocol, name in ((MQTTv5, "5"), (MQTTv311, "3.1.1")):
        heard: SimpleQueue[News] = SimpleQueue()
        client = make_client(broker, client_id, protocol)
        _Watch(client, broker, heard.put, lambda: None, {})
        start(client, broker)
        try:
            news = heard.get(timeout=timeout_s)
        except Empty:
            continue
        finally:
            client.disconnect()
        if isinstance(news, Connected):
            return name
        why = news.why if isinstance(news, Disconnected) else why
        if isinstance(news, Disconnected) and news.refused:
            break
    raise Unreachable(f"broker {broker}: {why}")


def is_wrong_version(reason: ReasonCode) -> bool:
    """Does the broker refuse this version of MQTT?"""
    return reason.getName() in ("Unsupported protocol version", "Protocol error", "Malformed packet")


def _properties(protocol: MQTTProtocolVersion, packet: int, **values: int) -> Properties | None:
    """Properties of a packet; None in MQTT 3.1.1, which knows none."""
    if protocol != MQTTv5 or not values:
        return None
    properties = Properties(packet)  # type: ignore[no-untyped-call]
    for name, value in values.items():
        setattr(properties, name, value)
    return properties
