"""Verdicts to a topic on the line's own broker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from device_agent.contract.review import Verdict
from device_agent.local_mqtt import Topic, make_client, start, why_not
from device_agent.outputs import NotTaken

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessageInfo
    from paho.mqtt.reasoncodes import ReasonCode

WRITE_S = 1.0


class MqttTransport:
    """Publishes with QoS 0, not retained. At most one message is with the client at a time, and none while the broker
    is away: a decision that comes late is worse than none, and nothing grows.

    Raises:
        NotFound, BadInput: as for `Credentials.context`.
    """

    def __init__(self, topic: Topic) -> None:
        self.name = str(topic)
        self._broker, self._topic, self._why = topic.broker, topic.name, "the broker does not answer"
        self._last: MQTTMessageInfo | None = None
        self._client = make_client(topic.broker)
        self._client.on_connect = self._on_connect
        self._client.on_connect_fail = self._on_connect_fail
        self._client.on_disconnect = self._on_disconnect
        start(self._client, topic.broker)

    def _on_connect(self, _client: Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        self._why = f"the broker refuses: {str(reason).lower()}" if reason.is_failure else "the broker does not read"

    def _on_connect_fail(self, _client: Client, _data: Any) -> None:
        self._why = why_not(self._broker)

    def _on_disconnect(self, _client: Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        if not self._why.startswith("the broker refuses"):
            self._why = f"the connection ended: {str(reason).lower()}"

    def send(self, verdict: Verdict) -> None:
        """Publish; returns when it was written to the connection.

        Raises:
            NotTaken: the broker is away, or does not read.
        """
        if not self._client.is_connected():
            raise NotTaken(self._why)
        if self._last is not None and not _written(self._last):
            raise NotTaken("the broker does not read")
        self._last = info = self._client.publish(self._topic, msgspec.json.encode(verdict), qos=0)
        try:
            info.wait_for_publish(WRITE_S)
        except (RuntimeError, ValueError):
            raise NotTaken(self._why) from None
        if not info.is_published():
            raise NotTaken("the broker does not read")

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()


def _written(info: MQTTMessageInfo) -> bool:
    """Has the client let go of a message, be it written or lost with its connection?"""
    try:
        return info.is_published()
    except (RuntimeError, ValueError):
        return True
