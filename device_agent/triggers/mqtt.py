"""A message on a topic of the line's own broker."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from device_agent.contract.credentials import Credentials
from device_agent.local_mqtt import make_client, parse_topic, start, why_not
from device_agent.outputs.tally import Tally
from device_agent.triggers import Fired, Options, TriggerAddress, options_of
from device_agent.triggers.firings import Firings

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessage
    from paho.mqtt.reasoncodes import ReasonCode


class MqttTrigger(Firings):
    """A part for each message, whatever it says. One that was retained announces a part of long ago and is passed over.

    While the broker is away parts go by unseen, which is an event (`trigger_lost`). QoS 0: a part is announced once.

    Raises:
        NotFound, BadInput: as for `parse_topic`.
    """

    def __init__(
        self,
        address: TriggerAddress,
        told: Callable[[Fired], None],
        event: Callable[[str, str], None],
        credentials: Credentials,
    ) -> None:
        super().__init__(told, self.read(address))
        self._topic = parse_topic(address.target, credentials)
        self._lost = Tally("trigger_lost", event)
        self._client = client = make_client(self._topic.broker)
        client.on_connect = self._on_connect
        client.on_connect_fail = lambda *_: self._lost.count(f"{self._topic}: {why_not(self._topic.broker)}")
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe
        self._closed = False
        start(client, self._topic.broker)

    @staticmethod
    def read(address: TriggerAddress) -> Options:
        """The options of an address.

        Raises:
            BadInput: no topic, or an option that is none.
        """
        parse_topic(address.target)
        options: Options = options_of(address, Options)
        return options

    def _on_connect(self, client: Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        if reason.is_failure:
            self._lost.count(f"{self._topic}: the broker refuses: {str(reason).lower()}")
        else:
            client.subscribe(self._topic.name, qos=0)

    def _on_subscribe(
        self, _client: Client, _data: Any, _mid: int, reasons: list[ReasonCode], _properties: Any
    ) -> None:
        if any(reason.is_failure for reason in reasons):
            self._lost.count(f"{self._topic}: the broker refuses the subscription")

    def _on_disconnect(self, _client: Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        if not self._closed:
            self._lost.count(f"{self._topic}: the connection ended: {str(reason).lower()}")

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        if not message.retain:
            self.fire()

    def close(self) -> None:
        """Disconnect."""
        self._closed = True
        self._client.disconnect()
