"""The monitor's MQTT connection: messages into a deque, acks and alerts out of it, its own last will on the broker."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from device_agent.contract import topics
from device_agent.contract.broker import Broker, handshake_fault
from device_agent.contract.codec import SCHEMA, encode
from device_agent.contract.session import State
from fleet.buffered import BufferedClient, publish_packet
from fleet.inbox import Message

WAITING, SENT_AGAIN = 200_000, ("/report", "/backfill")
"""Messages that may wait, and of which kinds no more are taken then: devices send again what is not acknowledged. Of
others, which are few, as many again."""
LARGEST = 1 << 20
"""Bytes of a packet that the broker may send: many times what any of ours has."""
KEEPALIVE_S = 30
ACK_EXPIRY_S = 60
ANSWER_MS = 3_000
MOST_FILTERS = 8
"""In one SUBSCRIBE packet, as AWS IoT Core takes."""
KINDS = ("state", "birth", "report", "backfill", "event")


class Link:
    """A connection that keeps itself alive; MQTT 5 first, 3.1.1 for a broker that does not speak it.

    `messages` and `arrived` are what came, `missed` counts what came while too much waited; `connections` grows by one
    with each session. `say` takes one line for people when the broker comes or goes. `shared`: other workers serve
    other shards; each then has a state of its own, which is not retained, as workers come and go.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        client_id: str,
        session: int,
        clock_ms: Callable[[], int],
        say: Callable[[str], None],
        shared: bool = False,
    ) -> None:
        self._broker, self._client_id, self._session = broker, client_id, session
        self._filters = [] if shared else _filters(None)
        self._shards: frozenset[int] = frozenset()
        self._retain_state = not shared
        self._state_topic = f"{topics.FLEET_STATE}/{client_id}" if shared else topics.FLEET_STATE
        self._clock_ms, self._say = clock_ms, say
        self.messages: deque[Message] = deque()
        self.arrived = threading.Event()
        self.connections = 0
        self._protocol = MQTTProtocolVersion.MQTTv5
        self._refused, self._answered = False, False
        self._asked_ms: int | None = None
        self._silent = self._deaf = False
        self._left = 0
        self.missed = 0
        self._client = self._make()

    def _make(self) -> BufferedClient:
        client = BufferedClient(self._client_id, self._protocol, self._hear)
        if self._broker.user is not None:
            client.username_pw_set(self._broker.user, self._broker.password)
        if self._broker.tls:
            client.tls_set_context(self._broker.credentials.context())
        client.will_set(self._state_topic, self._state(online=False, reason="lost"), qos=1, retain=self._retain_state)
        client.reconnect_delay_set(1, 30)
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.on_connect_fail = self._on_connect_fail
        client.on_pre_connect, client.on_subscribe = self._on_pre_connect, self._on_subscribe
        return client

    @property
    def connected(self) -> bool:
        """Whether the broker is there now."""
        return self._client.is_connected() and self._client.failure is None and not self._deaf

    def start(self) -> None:
        """Connect, and again whenever it is lost, in a thread of its own."""
        properties = None
        if self._protocol == MQTTProtocolVersion.MQTTv5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.MaximumPacketSize = LARGEST
        keepalive_s = self._broker.keepalive_s or KEEPALIVE_S
        self._client.connect_async(self._broker.host, self._broker.port, keepalive_s, properties=properties)
        self._client.loop_start()

    def mend(self) -> None:
        """Change the protocol version after a broker refused one, or did not answer it, and begin anew after a fault of
        the client's own; called between batches."""
        if self._client.failure is not None:
            self._say(f"{self._broker}: the connection failed ({self._client.failure}); connecting anew")
            self._client = self._make()
            self.start()
        asked_ms = self._asked_ms
        if self._refused or (asked_ms is not None and self._clock_ms() - asked_ms > ANSWER_MS):
            self._refused, self._asked_ms = False, None
            five = self._protocol == MQTTProtocolVersion.MQTTv5
            self._protocol = MQTTProtocolVersion.MQTTv311 if five else MQTTProtocolVersion.MQTTv5
            self._client.loop_stop()
            self._client = self._make()
            self.start()

    def hear_no_more(self) -> None:
        """Hear nothing from now on; what came already waits in `messages`."""
        if self._client.is_connected():
            for part in _parts(self._filters):
                self._client.unsubscribe(part)

    def stop(self) -> None:
        """Say goodbye, so that nobody waits for the last will."""
        if self._client.is_connected():
            self._publish(
                self._state_topic, self._state(online=False, reason="stopped"), qos=1, retain=self._retain_state
            )
            self._client.disconnect()
        self._client.loop_stop()

    def acknowledge(self, acks: list[tuple[str, bytes]]) -> None:
        """Send acks to devices; lost when the broker is away, the devices then send again. Only the last one goes the
        library's way, which takes as long as everything else that is done for a report."""
        if not acks or not self._client.is_connected():
            return
        five = self._protocol == MQTTProtocolVersion.MQTTv5
        *ready, (device, payload) = acks
        expiry_s = ACK_EXPIRY_S if five else None
        self._client.post(
            b"".join(publish_packet(topics.down(one, "ack"), ack, expiry_s=expiry_s) for one, ack in ready)
        )
        properties = None
        if five:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.MessageExpiryInterval = ACK_EXPIRY_S
        self._client.publish(topics.down(device, "ack"), payload, qos=0, properties=properties)

    def retain(self, topic: str, payload: bytes) -> None:
        """Publish a retained message; an empty one takes it away."""
        if self._client.is_connected():
            self._publish(topic, payload, qos=1, retain=True)

    def _publish(self, topic: str, payload: bytes, *, qos: int, retain: bool) -> None:
        self._client.publish(topic, payload, qos=qos, retain=retain)

    def _state(self, *, online: bool, reason: str = "") -> bytes:
        return encode(State(SCHEMA, self._session, online, reason))

    def _on_pre_connect(self, _client: mqtt.Client, _data: Any) -> None:
        self._asked_ms = self._clock_ms()

    def _on_connect(self, client: mqtt.Client, _data: Any, _flags: Any, code: Any, _properties: Any) -> None:
        self._asked_ms = None
        if code.is_failure:
            self._refused = "protocol version" in str(code).lower()
            self._answered = not self._refused
            if self._answered and not self._silent:
                self._say(f"{self._broker}: the broker refused the connection: {str(code).lower()}; trying again")
                self._silent = True
            return
        self._silent = self._deaf = False
        self._left = self._subscribe(client, self._filters)
        if not self._left:
            self._on_ready(client)

    def serve(self, shards: frozenset[int]) -> None:
        """Hear the devices of these shards from now on, and no others; where several workers share the fleet."""
        added, gone = shards - self._shards, self._shards - shards
        self._shards = shards
        self._filters = [one for shard in sorted(shards) for one in _filters(shard)]
        if self._client.is_connected():
            for part in _parts([one for shard in sorted(gone) for one in _filters(shard)]):
                self._client.unsubscribe(part)
            self._subscribe(self._client, [one for shard in sorted(added) for one in _filters(shard)])

    @staticmethod
    def _subscribe(client: mqtt.Client, filters: list[str]) -> int:
        """Ask for messages, in as many packets as it takes."""
        parts = _parts(filters)
        for part in parts:
            client.subscribe([(one, 1) for one in part])
        return len(parts)

    def _on_subscribe(self, client: mqtt.Client, _data: Any, _id: int, codes: Any, _properties: Any) -> None:
        """Only after the last of them: a device that hears "online" may send at once."""
        refused = [code for code in codes if code.is_failure]
        if refused and not self._deaf:
            self._deaf = True
            self._say(
                f"{self._broker}: the broker does not let this monitor hear its devices: {str(refused[0]).lower()}"
            )
        if self._left and not self._deaf:
            self._left -= 1
            if not self._left:
                self._on_ready(client)

    def _on_ready(self, client: mqtt.Client) -> None:
        client.publish(self._state_topic, self._state(online=True), qos=1, retain=self._retain_state)
        self.connections += 1
        self._say(f"connected to {self._broker}")
        self.arrived.set()

    def _on_disconnect(self, _client: mqtt.Client, _data: Any, _flags: Any, code: Any, _properties: Any) -> None:
        if not self.connections:
            fault = "" if self._answered else handshake_fault(self._broker)
            self._refused = not self._answered and not fault
            if fault and not self._silent:
                self._silent = True
                self._say(f"{self._broker}: {fault}; trying again")
        elif code.is_failure and not self._silent:
            self._silent = True
            self._say(f"{self._broker}: connection lost ({str(code).lower()}); trying again")

    def _on_connect_fail(self, _client: mqtt.Client, _data: Any) -> None:
        self._asked_ms = None
        if not self._silent:
            self._silent = True
            fault = handshake_fault(self._broker)
            self._say(f"{self._broker}: {fault or 'no broker answers here'}; trying again until one does")

    def _hear(self, topic: str, payload: bytes) -> None:
        waiting = len(self.messages)
        if waiting >= WAITING and (waiting >= 2 * WAITING or topic.endswith(SENT_AGAIN)):
            self.missed += 1
            return
        self.messages.append(Message(topic, payload, self._clock_ms()))
        if not self.arrived.is_set():
            self.arrived.set()


def _filters(shard: int | None) -> list[str]:
    """What devices of a shard send, or all of them."""
    return [topics.up_filter(shard, kind) for kind in KINDS]


def _parts(filters: list[str]) -> list[list[str]]:
    """As many as any broker takes in one packet."""
    return [filters[at : at + MOST_FILTERS] for at in range(0, len(filters), MOST_FILTERS)]
