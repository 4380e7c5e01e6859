"""A live state with a few frames in it, and raw requests."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from device_agent.classify import Prediction
from device_agent.local.http import LocalServer
from device_agent.local.live import LiveState

STAGES_US = (310.0, 820.0, 5400.0, 60.0)


@pytest.fixture
def live() -> LiveState:
    """Serves litert-int8 with two labels; no frame yet."""
    state = LiveState()
    state.serves("litert-int8", "steel", ["good", "<script>alert(1)</script>"], degraded=False)
    return state


@pytest.fixture
def answer_frame(live: LiveState) -> Callable[..., None]:
    """`answer_frame(label=0, grey=128)`: one more frame of one colour."""

    def answer(label: int = 0, grey: int = 128) -> None:
        image = np.full((48, 64, 3), grey, np.uint8)
        live.frame(image, Prediction(label, 0.93, 2.6, 9), ("pass", "reject")[label], STAGES_US)

    return answer


@pytest.fixture
def ask() -> Iterator[Callable[..., bytes]]:
    """`ask(server, b"GET / HTTP/1.0...")`: all that comes back, within 5 s."""

    def send(server: LocalServer, request: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
            connection.sendall(request)
            received = b""
            try:
                while more := connection.recv(1 << 16):
                    received += more
            except ConnectionResetError:  # it closed with something of ours unread
                pass
            return received

    yield send


@pytest.fixture
def get(ask: Callable[..., bytes]) -> Callable[..., tuple[int, dict[str, str], bytes]]:
    """`get(server, "/path", Header="value")`: status, headers by lower-case name, content."""

    def fetch(server: LocalServer, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
        lines = {"Host": f"127.0.0.1:{server.port}", **headers}
        head = f"GET {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items()) + "\r\n"
        top, _, content = ask(server, head.encode("latin-1")).partition(b"\r\n\r\n")
        status, *rest = top.decode("latin-1").split("\r\n")
        found = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in rest}
        return int(status.split()[1]), found, content

    return fetch
