"""A topic on the broker of the line: where verdicts go and triggers come from. MQTT 3.1.1, which controllers speak."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, NamedTuple

from device_agent.contract.broker import Broker, handshake_fault, parse_broker
from device_agent.contract.credentials import Credentials
from device_agent.contract.errors import BadInput

if TYPE_CHECKING:
    from paho.mqtt.client import Client

KEEPALIVE_S = 10
CONNECT_TIMEOUT_S = 5.0
RETRY_S = (1, 30)
MOST_TOPIC = 1024


class Topic(NamedTuple):
    """A topic and its broker; `str()` of it shows no password."""

    broker: Broker
    name: str

    def __str__(self) -> str:
        return f"{self.broker}/{self.name}"


def parse_topic(url: str, credentials: Credentials = Credentials()) -> Topic:  # noqa: B008
    """The topic at a URL: everything after the broker's address.

    >>> print(parse_topic("mqtt://plc:secret@localhost/line/1/verdict"))
    mqtt://localhost:1883/line/1/verdict

    Raises:
        BadInput: no such URL, or a topic that is none to publish to.
        NotFound, BadInput: as for `parse_broker`.
    """
    scheme, _, rest = url.partition("://")
    server, _, topic = rest.partition("/")
    broker = parse_broker(f"{scheme}://{server}", credentials)
    if not topic or len(topic) > MOST_TOPIC or not topic.isprintable() or topic[0] == "$" or set(topic) & set("+#"):
        raise BadInput(
            f"{broker}/{topic[:80]}: a topic without + and # must follow the broker, as in "
            f"mqtt://localhost:1883/line/1/verdict"
        )
    return Topic(broker, topic)


def make_client(broker: Broker) -> Client:
    """A client that connects again by itself after 1 s, 2 s ... 30 s, once `start` was called.

    Raises:
        NotFound, BadInput: as for `Credentials.context`.
    """
    from paho.mqtt.client import Client, MQTTv311
    from paho.mqtt.enums import CallbackAPIVersion

    client = Client(
        CallbackAPIVersion.VERSION2, client_id=f"lineside-{secrets.token_hex(6)}", protocol=MQTTv311, clean_session=True
    )
    client.connect_timeout = CONNECT_TIMEOUT_S
    client.reconnect_delay_set(*RETRY_S)
    if broker.user is not None:
        client.username_pw_set(broker.user, broker.password)
    if broker.tls:
        client.tls_set_context(broker.credentials.context())
    return client


def start(client: Client, broker: Broker) -> None:
    """Begin to connect, in a thread of the client's own; `client.disconnect()` ends both."""
    client.connect_async(broker.host, broker.port, KEEPALIVE_S)
    client.loop_start()


def why_not(broker: Broker) -> str:
    """Why a connection could not be made."""
    return handshake_fault(broker) or "the broker does not answer"
