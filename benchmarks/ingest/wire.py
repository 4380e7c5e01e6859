"""MQTT at full speed: publishes what lies in a payload file, and bare subscribers that only count.

python benchmarks/ingest/wire.py paho PORT COUNT      prints {"messages": ..., "wall_s": ..., "cpu_s": ...}
python benchmarks/ingest/wire.py gmqtt PORT COUNT
python benchmarks/ingest/wire.py publish PORT FILE    sends the packets of FILE as fast as the broker takes them
"""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import struct
import sys
import time
from collections.abc import Iterable
from pathlib import Path

TOPIC = "lineside/1/up/#"


def packet(topic: str, payload: bytes) -> bytes:
    """An MQTT 3.1.1 PUBLISH of QoS 0 as it goes over the wire."""
    body = struct.pack("!H", len(topic)) + topic.encode() + payload
    length, head = len(body), b"\x30"
    while True:
        length, digit = divmod(length, 128)
        head += bytes([digit | (0x80 if length else 0)])
        if not length:
            return head + body


def write_packets(path: Path, messages: Iterable[tuple[str, bytes]]) -> int:
    """The messages as packets in a file; how many."""
    count = 0
    with path.open("wb") as out:
        for topic, payload in messages:
            out.write(packet(topic, payload))
            count += 1
    return count


def connect(port: int, client: str) -> socket.socket:
    """A connection that is accepted."""
    link = socket.create_connection(("127.0.0.1", port))
    body = struct.pack("!H", 4) + b"MQTT\x04\x02" + struct.pack("!HH", 600, len(client)) + client.encode()
    link.sendall(b"\x10" + bytes([len(body)]) + body)
    assert link.recv(4)[:1] == b"\x20"
    return link


def publish(port: int, path: Path) -> None:
    """Send every packet of the file."""
    link = connect(port, "publisher")
    with path.open("rb") as packets:
        while chunk := packets.read(1 << 16):
            link.sendall(chunk)
    link.sendall(b"\xe0\x00")
    link.close()


class Tally:
    """Counts messages from the first to the last."""

    def __init__(self, expected: int) -> None:
        self.expected, self.count = expected, 0
        self.first_s = self.last_s = self.cpu_s = 0.0

    def one(self) -> bool:
        """A message came; whether it was the last."""
        if not self.count:
            self.first_s, self.cpu_s = time.perf_counter(), _cpu_s()
        self.count += 1
        if self.count == self.expected:
            self.last_s, self.cpu_s = time.perf_counter(), _cpu_s() - self.cpu_s
            return True
        return False

    def say(self) -> None:
        """As JSON."""
        print(
            json.dumps({"messages": self.count, "wall_s": self.last_s - self.first_s, "cpu_s": self.cpu_s}), flush=True
        )


def paho(port: int, expected: int) -> None:
    """Count with paho-mqtt."""
    from paho.mqtt.client import Client
    from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

    tally, client = Tally(expected), Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)

    def heard(_client: object, _data: object, _message: object) -> None:
        if tally.one():
            client.disconnect()

    client.on_message = heard
    client.on_connect = lambda *_: client.subscribe(TOPIC, 0)
    client.on_subscribe = lambda *_: print("ready", flush=True)
    client.connect("127.0.0.1", port)
    client.loop_forever()
    tally.say()


def gmqtt(port: int, expected: int) -> None:
    """Count with gmqtt."""
    asyncio.run(_gmqtt(port, expected))


async def _gmqtt(port: int, expected: int) -> None:
    import gmqtt as library

    tally, done = Tally(expected), asyncio.Event()
    client = library.Client("counter")

    def heard(*_: object) -> int:
        if tally.one():
            done.set()
        return 0

    client.on_message = heard
    client.on_connect = lambda *_: client.subscribe(TOPIC, qos=0)
    client.on_subscribe = lambda *_: print("ready", flush=True)
    await client.connect("127.0.0.1", port)
    await done.wait()
    await client.disconnect()
    tally.say()


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    what, port, last = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    if what == "publish":
        publish(port, Path(last))
    else:
        {"paho": paho, "gmqtt": gmqtt}[what](port, int(last))
