"""The monitor's client: packets cut anywhere, every QoS and version, and a real broker that comes and goes."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from device_agent.contract import topics
from device_agent.contract.broker import Broker
from device_agent.contract.credentials import Credentials
from fleet import link as fleet_link
from fleet.buffered import Buffered, BufferedClient, publish_packet, read_publish
from fleet.keys import MOSQUITTO, create, utc_now
from fleet.link import Link

BURST = 3_000


class Wire:
    """A socket that gives what came in pieces, then nothing for now, and at last the end."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces, self.sent, self.room = pieces, bytearray(), 1 << 30

    def recv(self, _size: int) -> bytes:
        if not self.pieces:
            raise BlockingIOError
        return self.pieces.pop(0)

    def send(self, data: bytes) -> int:
        if not self.room:
            raise BlockingIOError
        took = min(len(data), self.room)
        self.sent += data[:took]
        self.room -= took
        return took

    def close(self) -> None:
        pass


def publish(topic: str, payload: bytes, number: int | None, *, five: bool, user: bytes = b"") -> bytes:
    """A PUBLISH by the letter of the standard, with a user property in MQTT 5."""
    said = b"\x26" + struct.pack("!H", len(user)) + user + b"\x00\x01v" if five and user else b""
    properties = bytes([len(said)]) + said if five else b""
    name = topic.encode()
    body = struct.pack("!H", len(name)) + name + (struct.pack("!H", number) if number else b"") + properties + payload
    left, length = len(body), bytearray()
    while not length or left:
        length.append(left % 128 | (0x80 if left > 127 else 0))
        left //= 128
    return bytes([0x32 if number else 0x30]) + bytes(length) + body


def read(link: Buffered, pieces: int, *, five: bool) -> list[object]:
    """What comes out of a wire of so many pieces: publishes, and all other packets as bytes."""
    found: list[object] = []
    for _ in range(pieces):
        link.fill()
        while True:
            found += link.publishes(five=five)
            if not link.open_packet():
                break
            whole = b""
            while True:
                try:
                    whole += link.recv(3)
                except BlockingIOError:
                    break
            found.append(whole)
    return found


MESSAGES = st.tuples(
    st.text(st.characters(codec="utf-8", exclude_characters="\0+#"), min_size=1, max_size=20),
    st.binary(max_size=300),
    st.none() | st.integers(1, 65_535),
    st.binary(max_size=20),
)
OTHERS = st.sampled_from([b"\xd0\x00", b"\x90\x04\x00\x07\x00\x01", b"\x34\x07\x00\x01t\x00\x09\x00x", b"\xe0\x00"])


@settings(max_examples=300, deadline=None)
@given(st.lists(MESSAGES | OTHERS, max_size=12), st.booleans(), st.lists(st.integers(1, 400), max_size=30))
def test_packets_come_out_whole_and_in_order_however_they_are_cut(said, five, cuts):
    expected: list[object] = []
    stream = b""
    for one in said:
        if isinstance(one, bytes):
            stream, expected = stream + one, [*expected, one]
        else:
            topic, payload, number, user = one
            stream += publish(topic, payload, number, five=five, user=user)
            expected.append((topic, payload, number))
    pieces, at = [], 0
    for cut in [*cuts, len(stream)]:
        if at < len(stream):
            pieces.append(stream[at : at + cut])
            at += cut
    link = Buffered(Wire(list(pieces)))
    assert read(link, len(pieces), five=five) == expected
    assert not link.open_packet(), "nothing is left"


@given(st.binary(max_size=60), st.booleans())
def test_no_bytes_of_a_broker_make_it_stumble(garbage, five):
    link = Buffered(Wire([garbage]))
    link.fill()
    for one in link.publishes(five=five):
        assert one.topic
    at, end = 0, 0
    while at < len(garbage) and end >= 0:
        _, end = read_publish(garbage, at, five=five)
        assert end == -1 or at < end <= len(garbage)
        at = end


def test_the_end_of_a_connection_comes_after_what_was_sent_before_it():
    link = Buffered(Wire([publish_packet("a", b"last", expiry_s=None), b""]))
    link.fill()
    link.fill()
    assert [one.payload for one in link.publishes(five=False)] == [b"last"]
    assert link.open_packet()
    with pytest.raises(ConnectionResetError, match="closed"):
        link.recv(1)


def test_what_the_system_does_not_take_waits_and_too_much_is_refused(monkeypatch):
    monkeypatch.setattr("fleet.buffered.WAITING", 10)
    wire = Wire([])
    wire.room = 4
    link = Buffered(wire)
    assert link.send(b"0123456789ab") == 12
    with pytest.raises(BlockingIOError):
        link.send(b"more")
    link.flush()
    assert (bytes(wire.sent), link.unwritten) == (b"0123", True)
    wire.room = 100
    link.close()
    assert (bytes(wire.sent), link.unwritten) == (b"0123456789ab", False)


@pytest.fixture
def open_link() -> Iterator[Any]:
    opened: list[Link] = []

    def begin(broker: Any, version: MQTTProtocolVersion, credentials: Credentials | None = None) -> Link:
        where = Broker(broker.host, broker.port, tls=credentials is not None, credentials=credentials or Credentials())
        link = Link(where, client_id="monitor", session=1, clock_ms=lambda: 7, say=lambda _line: None)
        link._protocol = version
        link._client = link._make()
        link.start()
        opened.append(link)
        return link

    yield begin
    for link in opened:
        link.stop()


@pytest.fixture
def device() -> Iterator[Any]:
    """A client of paho's own, connected by `device(broker, credentials)`."""
    clients: list[mqtt.Client] = []

    def begin(broker: Any, credentials: Credentials | None = None) -> mqtt.Client:
        client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        client.max_queued_messages_set(0)
        if credentials is not None:
            client.tls_set_context(credentials.context())
        client.connect(broker.host, broker.port)
        client.loop_start()
        clients.append(client)
        return client

    yield begin
    for client in clients:
        client.disconnect()
        client.loop_stop()


def test_a_large_packet_is_joined_once() -> None:
    payload = bytes(range(256)) * 4_000
    whole = publish("a", b"first", None, five=True) + publish("a", payload, None, five=True)
    link = Buffered(Wire([whole[at : at + 1000] for at in range(0, len(whole), 1000)]))
    joined, heard = set(), []
    for _ in range(len(whole) // 1000 + 1):
        link.fill()
        joined.add(id(link._held))
        heard += link.publishes(five=True)
    assert [one.payload for one in heard] == [b"first", payload] and len(joined) <= 3


def test_a_topic_that_is_no_text_comes_as_one_that_nobody_has() -> None:
    packet = b"\x30" + bytes([12]) + struct.pack("!H", 7) + b"dev-\xff/x" + b"abc"
    found, end = read_publish(packet, 0, five=False)
    assert found == ("dev-\ufffd/x", b"abc", None) and end == len(packet)


def test_answers_wait_until_there_is_room_for_them() -> None:
    wire = Wire([])
    wire.room = 0
    client = BufferedClient("x", MQTTProtocolVersion.MQTTv311)
    client.is_connected = lambda: True  # type: ignore[method-assign]
    link = Buffered(wire)
    client.post(b"x" * (5 << 20))
    client._write_posted(link)
    client._answers.extend(b"\x40\x02" + struct.pack("!H", number) for number in range(1, 21))
    for number in range(200):
        client.post(b"ack %03d;" % number)
    client._write_posted(link)
    wire.room = 1 << 30
    for _ in range(3):
        client._write_posted(link)
    assert wire.sent.count(b"\x40\x02") == 20, "the broker keeps a place for each until it is answered"
    assert b"ack 199;" in wire.sent and b"ack 000;" not in wire.sent, "of acknowledgements the last ones matter"


def test_a_full_queue_leaves_out_what_devices_send_again(monkeypatch) -> None:
    monkeypatch.setattr(fleet_link, "WAITING", 2)
    link = Link(Broker("127.0.0.1", 1), client_id="x", session=1, clock_ms=lambda: 7, say=print)
    for kind in ("report", "report", "report", "state", "birth", "backfill", "state"):
        link._hear(topics.up("press-1", kind), b"")
    assert [one.topic.rpartition("/")[2] for one in link.messages] == ["report", "report", "state", "birth"]
    assert link.missed == 3


@pytest.mark.broker
def test_a_thread_that_fails_is_told_and_begins_anew(mosquitto, open_link, device, eventually, monkeypatch):
    link = open_link(mosquitto, MQTTProtocolVersion.MQTTv5)
    said: list[str] = []
    link._say = said.append
    eventually(lambda: link.connections == 1)
    with monkeypatch.context() as broken:
        broken.setattr(Buffered, "publishes", lambda *_, **__: 1 / 0)
        device(mosquitto).publish(topics.up("press-1", "report"), b"1", qos=1)
        eventually(lambda: not link.connected)
    link.mend()
    eventually(lambda: link.connections == 2 and link.connected)
    assert [line for line in said if "division by zero" in line and "connecting anew" in line]


@pytest.mark.broker
def test_a_broker_that_refuses_subscriptions_is_told_and_nobody_counts_as_silent(mosquitto, open_link, eventually):
    link = open_link(mosquitto, MQTTProtocolVersion.MQTTv5)
    eventually(lambda: link.connected)
    said: list[str] = []
    link._say = said.append
    codes = [ReasonCode(PacketTypes.SUBACK, identifier=code) for code in (1, 0x87)]  # Mosquitto grants all of them
    link._on_subscribe(link._client, None, 1, codes, None)
    assert not link.connected and "does not let this monitor hear its devices: not authorized" in said[0]


@pytest.mark.broker
@pytest.mark.parametrize("version", [MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311])
def test_every_message_of_a_real_broker_is_heard_once(mosquitto, open_link, device, eventually, version):
    link = open_link(mosquitto, version)
    eventually(lambda: link.connections == 1)
    client = device(mosquitto)
    large = bytes(range(256)) * 1_200
    client.publish(topics.up("press-1", "event"), large, qos=1)
    client.publish(topics.up("press-1", "event"), b"", qos=2)
    for number in range(BURST):  # more than the broker lets wait for an answer
        client.publish(topics.up("press-1", "report"), struct.pack("!I", number), qos=number % 2)
    eventually(lambda: len(link.messages) >= BURST + 2, 30)
    heard = list(link.messages)
    assert {one.topic for one in heard} == {topics.up("press-1", "event"), topics.up("press-1", "report")}
    assert [one.payload for one in heard if len(one.payload) != 4] in ([large, b""], [b"", large])
    numbers = [struct.unpack("!I", one.payload)[0] for one in heard if len(one.payload) == 4]
    assert sorted(numbers) == list(range(BURST)) and heard[0].received_ms == 7


@pytest.mark.broker
def test_acks_arrive_with_their_expiry_and_those_for_a_lost_connection_do_no_harm(
    mosquitto, open_link, device, eventually
):
    link = open_link(mosquitto, MQTTProtocolVersion.MQTTv5)
    client = device(mosquitto)
    got: list[mqtt.MQTTMessage] = []
    client.on_message = lambda _client, _data, message: got.append(message)
    client.on_connect = lambda *_: client.subscribe(f"{topics.ROOT}/down/+/ack")
    client.subscribe(f"{topics.ROOT}/down/+/ack")
    eventually(lambda: link.connections == 1)
    acks = [(f"press-{number}", b"%d" % number) for number in range(1_000)]
    eventually(lambda: link.acknowledge([("warm", b"up")]) or got)
    link.acknowledge(acks)
    eventually(lambda: got[-1].payload == b"999")
    assert [(one.topic.split("/")[3], one.payload) for one in got if one.payload != b"up"] == acks
    left = {one.properties.MessageExpiryInterval for one in got}
    assert left <= {fleet_link.ACK_EXPIRY_S, fleet_link.ACK_EXPIRY_S - 1}
    mosquitto.kill()
    link._client.post(publish_packet(topics.down("press-1", "ack"), b"stale", expiry_s=60))
    eventually(lambda: not link.connected)
    got.clear()
    mosquitto.start()
    eventually(lambda: link.connections == 2, 60)
    eventually(lambda: link.acknowledge(acks[:3]) or len(got) >= 3, 60)
    assert b"stale" not in {one.payload for one in got}


@pytest.mark.broker
def test_over_tls_too(mosquitto, open_link, device, eventually, tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys") / "fleet"
    create(folder, ["127.0.0.1"], utc_now())
    mine = Credentials(folder / "authority.pem", folder / "fleet.pem", folder / "fleet.key")
    mosquitto.stop()
    for path in (folder.parent, *folder.rglob("*"), folder):
        path.chmod(path.stat().st_mode | 0o055 if path.is_dir() else path.stat().st_mode)
    text = MOSQUITTO.replace("/etc/mosquitto/lineside", str(folder))
    text = text.replace("listener 8883", f"listener {mosquitto.port} {mosquitto.host}")
    lines = [line for line in text.splitlines() if "acl" not in line and "clientid" not in line]  # two of one name here
    mosquitto.config.write_text("\n".join(["user root", *lines, ""]))
    mosquitto.start()
    link = open_link(mosquitto, MQTTProtocolVersion.MQTTv5, mine)
    eventually(lambda: link.connections == 1)
    client = device(mosquitto, mine)
    for number in range(BURST):
        client.publish(topics.up("press-1", "report"), struct.pack("!I", number) * 20, qos=1)
    eventually(lambda: len(link.messages) >= BURST, 30)
    assert len({one.payload for one in link.messages}) == BURST
