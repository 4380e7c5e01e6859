"""paho's client for a stream of small messages: many packets to a call of the system, and few steps for a message.

A call that waits for the socket gives the interpreter's lock away, and has it back only when another thread that
computes lets go of it, up to 5 ms later: at three calls a packet a busy monitor hears some hundred packets a second. So
what has come is read at once, and a PUBLISH is taken out of it here. All other packets go to paho one by one, and the
session, its keepalive and the writing of what is published stay paho's.
"""

from __future__ import annotations

import ssl
import struct
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion

READ, WAITING = 1 << 18, 1 << 22
"""Bytes that are read at once, and that may wait to be written before more is taken."""
POSTED = 64
"""Lots of packets that may wait: acknowledgements are cumulative, and devices send again what has none."""
LATER = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
PUBLISH = 3


class Publish(NamedTuple):
    """A PUBLISH as it came; `number` is its packet identifier, None for QoS 0."""

    topic: str
    payload: bytes
    number: int | None


def publish_packet(topic: str, payload: bytes, *, expiry_s: int | None) -> bytes:
    """A PUBLISH of QoS 0 (MQTT 5.0, 3.3); `expiry_s` is its message expiry interval, None for MQTT 3.1.1.

    >>> publish_packet("a/b", b"xy", expiry_s=None)
    b'0\\x07\\x00\\x03a/bxy'
    >>> publish_packet("a/b", b"xy", expiry_s=60)
    b'0\\r\\x00\\x03a/b\\x05\\x02\\x00\\x00\\x00<xy'
    """
    properties = b"" if expiry_s is None else b"\x05\x02" + struct.pack("!I", expiry_s)
    name = topic.encode()
    left, length = len(name) + 2 + len(properties) + len(payload), bytearray()
    while True:
        left, digit = divmod(left, 128)
        length.append(digit | (0x80 if left else 0))
        if not left:
            return b"0" + length + struct.pack("!H", len(name)) + name + properties + payload


def read_publish(held: bytes, at: int, *, five: bool) -> tuple[Publish | None, int]:
    """The packet at `at`: what it says if it is a sound PUBLISH of QoS 0 or 1, and where it ends; -1 while it is not
    whole. `five`: of MQTT 5, whose properties are passed over.

    >>> read_publish(b"0\\x07\\x00\\x03a/bxy", 0, five=False)
    (Publish(topic='a/b', payload=b'xy', number=None), 9)
    >>> read_publish(b"0\\x07\\x00\\x03a", 0, five=False)
    (None, -1)
    """
    body, size = _varint(held, at + 1)
    end = body + size
    if body < 0 or end > len(held):
        return None, -1
    kind, quality = held[at] >> 4, held[at] >> 1 & 3
    if kind != PUBLISH or quality > 1 or size < 2:
        return None, end
    start = body + 2 + (held[body] << 8 | held[body + 1])
    topic, number = held[body + 2 : start], None
    if quality and start + 2 <= end:
        number, start = held[start] << 8 | held[start + 1], start + 2
    if five:
        start, size = _varint(held, start)
        start = start + size if start > 0 else end + 1
    if start > end or not topic or (quality and not number):
        return None, end
    return Publish(topic.decode(errors="replace"), held[start:end], number), end


def _varint(held: bytes, at: int) -> tuple[int, int]:
    """Where a variable byte integer ends, and what it is; -1 while it is not whole."""
    value = 0
    for shift in (0, 7, 14, 21):
        if at >= len(held):
            return -1, 0
        digit, at = held[at], at + 1
        value |= (digit & 0x7F) << shift
        if digit < 0x80:
            break
    return at, value


class Buffered:
    """A socket that reads ahead and writes behind; otherwise the socket itself. For one thread."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._held, self._at, self._until = b"", 0, 0
        self._more: list[bytes] = []
        self._end: OSError | None = None
        self._out = bytearray()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def pending(self) -> int:
        """Bytes that `fill` gets without waiting and that no `select` shows: those of a record of TLS."""
        return self._inner.pending() if isinstance(self._inner, ssl.SSLSocket) else 0

    def fill(self) -> None:
        """Read what has come; the end of the connection is kept for `recv`. Parts of one packet are joined once."""
        try:
            more = self._inner.recv(READ)
        except LATER:
            return
        except OSError as error:
            self._end = error
            return
        if not more:
            self._end = ConnectionResetError("the broker has closed the connection")
        self._more.append(more)
        body, size = _varint(self._held, self._at + 1)
        if len(self._held) + sum(map(len, self._more)) >= body + size:
            self._held, self._at = b"".join([self._held[self._at :], *self._more]), 0
            self._more.clear()
        self._until = self._at

    def publishes(self, *, five: bool) -> Iterator[Publish]:
        """The PUBLISH packets that come next and are there as a whole."""
        while self._at < len(self._held):
            publish, end = read_publish(self._held, self._at, five=five)
            if publish is None:
                return
            self._at = end
            yield publish

    def open_packet(self) -> bool:
        """Let `recv` give the packet that comes next, if it is there as a whole, or the end of the connection."""
        end = read_publish(self._held, self._at, five=False)[1] if self._at < len(self._held) else -1
        self._until = max(end, self._at)
        return end > 0 or self._end is not None

    def recv(self, size: int) -> bytes:
        """Up to `size` bytes of the packet that is open."""
        if self._at == self._until:
            raise self._end or BlockingIOError
        piece = self._held[self._at : min(self._at + size, self._until)]
        self._at += len(piece)
        return piece

    def send(self, data: bytes) -> int:
        """Take all of it, to be written by `flush`; BlockingIOError while too much waits."""
        if not self.room:
            raise BlockingIOError
        self._out += data
        return len(data)

    @property
    def room(self) -> bool:
        """Whether `send` takes anything."""
        return len(self._out) <= WAITING

    @property
    def unwritten(self) -> bool:
        """Whether something waits to be written."""
        return bool(self._out)

    def flush(self) -> None:
        """Write what the system takes. A broken connection is noticed by who reads."""
        with suppress(*LATER, OSError):
            while self._out:
                del self._out[: self._inner.send(self._out)]

    def close(self) -> None:
        """Write what waits, and close."""
        self.flush()
        self._inner.close()


class BufferedClient(mqtt.Client):
    """A client whose packets go in and out many at once. Messages of QoS 0 and 1 go to `heard` (topic, payload), and
    not to callbacks of paho's; `post` takes packets that are ready."""

    def __init__(
        self, client_id: str, protocol: MQTTProtocolVersion, heard: Callable[[str, bytes], None] = lambda *_: None
    ) -> None:
        super().__init__(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=protocol)
        self._five, self._heard = protocol == MQTTProtocolVersion.MQTTv5, heard
        self._answers: deque[bytes] = deque()
        self._posted: deque[bytes] = deque(maxlen=POSTED)
        self.failure: Exception | None = None

    def post(self, packets: bytes) -> None:
        """Whole packets that need no answer; they go out with the next one that is published. They are lost with the
        connection, and the oldest of them where the broker does not read."""
        self._posted.append(packets)

    def loop_forever(self, timeout: float = 1.0, retry_first_connection: bool = False) -> MQTTErrorCode:
        """Stay connected; see paho. Whatever this raises ends its thread, and is kept as `failure`."""
        try:
            return super().loop_forever(timeout, retry_first_connection)
        except Exception as error:  # noqa: BLE001 - a thread that nobody waits for
            self.failure = error
            return MQTTErrorCode.MQTT_ERR_UNKNOWN

    def loop_read(self, max_packets: int = 1) -> MQTTErrorCode:
        """Read what has come; see paho."""
        link = self._buffer()
        if link is None:
            return super().loop_read(max_packets)
        link.fill()
        code = MQTTErrorCode.MQTT_ERR_SUCCESS
        while code == MQTTErrorCode.MQTT_ERR_SUCCESS and self._buffer() is link:
            for publish in link.publishes(five=self._five):
                self._heard(publish.topic, publish.payload)
                if publish.number is not None:
                    self._answers.append(struct.pack("!BBH", 0x40, 2, publish.number))
            if not link.open_packet():
                self._write_posted(link)
                break
            code = super().loop_read(max_packets)
        return code

    def loop_write(self) -> MQTTErrorCode:
        """Write what waits; see paho."""
        link = self._buffer()
        if link is not None:
            self._write_posted(link)
        code = super().loop_write()
        if link is not None:
            link.flush()
        return code

    def want_write(self) -> bool:
        """Whether something waits to be written; see paho."""
        link = self._buffer()
        return super().want_write() or bool(link and link.unwritten)

    def _write_posted(self, link: Buffered) -> None:
        """Write answers and packets that were posted, those for which there is no room later."""
        for waiting in (self._answers, self._posted):
            while waiting and self.is_connected() and link.room:
                link.send(waiting.popleft())
        link.flush()

    def _buffer(self) -> Buffered | None:
        link = self.socket()
        return link if isinstance(link, Buffered) else None

    def _create_socket(self) -> Any:
        """paho's own way to a socket, which it has no public name for; without it everything works, only slower."""
        inner = super()._create_socket()
        self._answers.clear()  # these were for another connection
        self._posted.clear()
        return Buffered(inner)
