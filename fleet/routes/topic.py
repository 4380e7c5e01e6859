"""Alerts on an MQTT broker: lineside/1/fleet/alert/<site>/<id>, retained while open and taken away after."""

from __future__ import annotations

import secrets
import threading
from typing import Any

import msgspec
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from device_agent.contract import topics
from device_agent.contract.broker import handshake_fault, parse_broker
from fleet.routes import Notice, NotTaken
from fleet.routes.settings import Wiring


class TopicRoute:
    """Publishes each alert with QoS 1, in a connection for each notice, MQTT 5 or else 3.1.1.

    Raises:
        BadInput, NotFound: no URL of a broker, or credentials that do not serve.
    """

    def __init__(self, wiring: Wiring) -> None:
        self._broker = parse_broker(wiring.url, wiring.credentials)
        self._timeout_s = wiring.settings.timeout_s
        self.name = str(self._broker)

    def take(self, notice: Notice) -> None:
        """Publish what the notice is about, and return once the broker has all of it. A test is published unretained
        on lineside/1/fleet/alert/test/<id>.

        Raises:
            NotTaken: the broker is away, refuses, or did not take all in time.
        """
        letters = [
            (
                topics.alert(item.alert.site, item.alert.id),
                b"" if item.alert.closed_ms is not None or item.alert.inhibited_by else msgspec.json.encode(item.alert),
                True,
            )
            for item in notice.items
        ]
        if notice.kind == "test":
            letters = [(topics.alert("test", notice.id), msgspec.json.encode(notice), False)]
        why = ""
        for protocol in (MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311):
            talk = _Talk(self._broker, protocol, self._timeout_s)
            try:
                if not (why := talk.publish(letters)):
                    return
            finally:
                talk.close()
            if "protocol version" not in why:
                break
        raise NotTaken(f"{self.name}: {handshake_fault(self._broker) or why}")

    def close(self) -> None:
        """Nothing to hang up: each notice has a connection of its own."""


class _Talk:
    """One connection."""

    def __init__(self, broker: Any, protocol: MQTTProtocolVersion, timeout_s: float) -> None:
        self._broker, self._timeout_s = broker, timeout_s
        self._why = ""
        self._answered = threading.Event()
        client_id = f"lineside-alerts-{secrets.token_hex(4)}"
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=client_id, protocol=protocol, reconnect_on_failure=False
        )
        self._client.connect_timeout = timeout_s
        self._client.max_queued_messages_set(0)
        self._client.max_inflight_messages_set(1000)
        if broker.user is not None:
            self._client.username_pw_set(broker.user, broker.password)
        if broker.tls:
            self._client.tls_set_context(broker.credentials.context())
        self._client.on_connect, self._client.on_publish = self._on_connect, self._on_publish

    def publish(self, letters: list[tuple[str, bytes, bool]]) -> str:
        """Connect and publish; why it did not go, empty if it did."""
        try:
            self._client.connect(self._broker.host, self._broker.port, 30)
        except (OSError, ValueError) as error:
            return (getattr(error, "strerror", None) or str(error)).lower()
        self._client.loop_start()
        if not self._answered.wait(self._timeout_s):
            return "does not answer in time"
        if self._why:
            return self._why
        sent = [self._client.publish(topic, payload, qos=1, retain=retain) for topic, payload, retain in letters]
        for info in sent:
            try:
                info.wait_for_publish(self._timeout_s)
            except (RuntimeError, ValueError) as error:
                return self._why or f"did not take the message: {error}"
            if not info.is_published():
                return self._why or "did not take the message in time"
        return self._why

    def _on_connect(self, _client: mqtt.Client, _data: Any, _flags: Any, code: Any, _properties: Any) -> None:
        if code.is_failure:
            self._why = f"refuses the connection: {str(code).lower()}"
        self._answered.set()

    def _on_publish(self, _client: mqtt.Client, _data: Any, _mid: int, code: Any, _properties: Any) -> None:
        if code is not None and code.is_failure:
            self._why = f"did not take the message: {str(code).lower()}"

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
