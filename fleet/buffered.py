"""paho's client with many packets to a call of the system: the interpreter's lock changes hands once for all of them.

A call that waits for the socket gives the lock away, and has it back only when another thread that computes lets go of
it, up to 5 ms later. At two or three calls a packet a busy monitor would hear no more than a hundred packets a second.
"""

from __future__ import annotations

import ssl
import struct
from collections import deque
from contextlib import suppress
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import MQTTErrorCode

READ, WAITING = 1 << 18, 1 << 22
"""Bytes that are read at once, and that may wait to be written before more is taken."""
LATER = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
EXPIRY = b"\x02"


def publish_packet(topic: str, payload: bytes, *, expiry_s: int | None) -> bytes:
    """A PUBLISH of QoS 0 (MQTT 5.0, 3.3); `expiry_s` is its message expiry interval, None for MQTT 3.1.1.

    >>> publish_packet("a/b", b"xy", expiry_s=None)
    b'0\\x07\\x00\\x03a/bxy'
    >>> publish_packet("a/b", b"xy", expiry_s=60)
    b'0\\r\\x00\\x03a/b\\x05\\x02\\x00\\x00\\x00<xy'
    """
    properties = b"" if expiry_s is None else b"\x05" + EXPIRY + struct.pack("!I", expiry_s)
    name = topic.encode()
    left, length = len(name) + 2 + len(properties) + len(payload), bytearray()
    while True:
        left, digit = divmod(left, 128)
        length.append(digit | (0x80 if left else 0))
        if not left:
            return b"0" + length + struct.pack("!H", len(name)) + name + properties + payload


class Buffered:
    """A socket that reads ahead and writes behind; otherwise the socket itself. For one thread."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._held, self._at = b"", 0
        self._out = bytearray()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def pending(self) -> int:
        """Bytes that can be had without waiting."""
        inner = self._inner.pending() if isinstance(self._inner, ssl.SSLSocket) else 0
        return len(self._held) - self._at + inner

    def recv(self, size: int) -> bytes:
        """Up to `size` bytes; nothing when the other side has closed."""
        if self._at == len(self._held):
            self._held, self._at = self._inner.recv(READ), 0
        piece = self._held[self._at : self._at + size]
        self._at += len(piece)
        return piece

    def send(self, data: bytes) -> int:
        """Take all of it, to be written by `flush`; BlockingIOError while too much waits."""
        if len(self._out) > WAITING:
            raise BlockingIOError
        self._out += data
        return len(data)

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
    """A client whose packets go in and out many at once; `post` takes packets that are ready."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._posted: deque[bytes] = deque()

    def post(self, packets: bytes) -> None:
        """Whole packets that need no answer; they go out with the next one that is published, or are lost with the
        connection."""
        self._posted.append(packets)

    def loop_read(self, max_packets: int = 1) -> MQTTErrorCode:
        """Read what has come; see paho."""
        code = super().loop_read(max_packets)
        while code == MQTTErrorCode.MQTT_ERR_SUCCESS and (link := self._buffer()) and link.pending():
            code = super().loop_read(max_packets)
        return code

    def loop_write(self) -> MQTTErrorCode:
        """Write what waits; see paho."""
        code = super().loop_write()
        link = self._buffer()
        while self._posted:
            packets = self._posted.popleft()
            if link is not None and self.is_connected():
                with suppress(BlockingIOError):
                    link.send(packets)
        if link is not None:
            link.flush()
        return code

    def want_write(self) -> bool:
        """Whether something waits to be written; see paho."""
        link = self._buffer()
        return super().want_write() or bool(link and link.unwritten)

    def _buffer(self) -> Buffered | None:
        link = self.socket()
        return link if isinstance(link, Buffered) else None

    def _create_socket(self) -> Any:
        """paho's own way to a socket, which it has no public name for; without it everything works, only slower."""
        return Buffered(super()._create_socket())


__all__ = ["Buffered", "BufferedClient", "publish_packet"]
