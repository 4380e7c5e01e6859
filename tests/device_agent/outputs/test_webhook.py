"""A real HTTP server that is well, slow, dead, refuses, or talks nonsense."""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from device_agent.outputs import NotTaken
from device_agent.outputs.line import open_line
from device_agent.outputs.sender import Sender
from device_agent.outputs.settings import LineSettings
from device_agent.outputs.webhook import SIGNATURE, WebhookTransport, parse_webhook

Eventually = Callable[..., object]
SECRET = b"0123456789abcdef"


class Receiver:
    """An HTTP server on a port of its own; `answer(handler)` may do what it likes."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.clients: set[Any] = set()
        self.answer: Callable[[Any], None] = self.take
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                receiver.headers.append({"path": self.path, **self.headers})
                receiver.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                receiver.clients.add(self.client_address)
                receiver.answer(self)

            def log_message(self, *_: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/verdict?line=1"

    @staticmethod
    def take(handler: Any) -> None:
        handler.send_response(204)
        handler.end_headers()

    @property
    def frames(self) -> list[int]:
        return [json.loads(body)["frame"] for body in self.bodies]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    one = Receiver()
    yield one
    one.server.shutdown()
    one.server.server_close()


def transport(url: str, timeout_s: float = 5.0) -> WebhookTransport:
    return WebhookTransport(parse_webhook(url), timeout_s=timeout_s)


def test_verdicts_come_signed_in_order_over_one_connection(
    receiver: Receiver, events: Any, verdict: Any, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET + b"\n")
    secret.chmod(0o600)
    line = open_line(LineSettings(webhook=receiver.url, webhook_secret=str(secret)), events)
    for frame in range(50):
        line.put(verdict(frame, "reject"))
    line.close(10.0)
    assert receiver.frames == list(range(50)) and len(receiver.clients) == 1
    for body, headers in zip(receiver.bodies, receiver.headers, strict=True):
        assert headers[SIGNATURE] == "sha256=" + hmac.new(SECRET, body, hashlib.sha256).hexdigest()
        assert (headers["path"], headers["Content-Type"]) == ("/verdict?line=1", "application/json")
    assert json.loads(receiver.bodies[0])["decision"] == "reject" and events == []


def test_a_connection_that_was_closed_while_idle_is_opened_again(receiver: Receiver, verdict: Any) -> None:
    one = transport(receiver.url)

    def hang_up(handler: Any) -> None:
        receiver.take(handler)
        handler.close_connection = True

    receiver.answer = hang_up
    for frame in range(5):
        one.send(verdict(frame))
    one.close()
    assert receiver.frames == list(range(5))


def status(code: int, **headers: str) -> Callable[[Any], None]:
    def answer(handler: Any) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def raw(data: bytes) -> Callable[[Any], None]:
    def answer(handler: Any) -> None:
        handler.wfile.write(data)
        handler.close_connection = True

    return answer


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (status(500), "answers with status 500"),
        (status(404), "answers with status 404"),
        (status(307, Location="http://127.0.0.1:1/"), "answers with status 307"),
        (raw(b"\x00\xff garbage\r\n\r\n"), "does not answer in HTTP"),
        (raw(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n"), "does not answer in HTTP"),
        (raw(b""), "closed connection"),
    ],
)  # fmt: skip
def test_an_answer_that_is_none_costs_the_verdict_and_the_next_one_goes(
    receiver: Receiver, verdict: Any, answer: Callable[[Any], None], said: str
) -> None:
    one = transport(receiver.url)
    receiver.answer = answer
    with pytest.raises(NotTaken, match=said):
        one.send(verdict(0))
    receiver.answer = receiver.take
    one.send(verdict(1))
    one.close()
    assert receiver.frames[-1] == 1


def test_an_answer_without_end_is_not_read(receiver: Receiver, verdict: Any) -> None:
    one = transport(receiver.url)
    receiver.answer = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n" + b"x" * 200_000)
    one.send(verdict(0))
    receiver.answer = receiver.take
    one.send(verdict(1))
    one.close()
    assert receiver.frames == [0, 1] and len(receiver.clients) == 2


def test_a_receiver_that_is_too_slow_costs_verdicts_and_put_returns(
    receiver: Receiver, events: Any, verdict: Any, eventually: Eventually
) -> None:
    release = threading.Event()
    receiver.answer = lambda handler: (release.wait(30), receiver.take(handler))[1]
    sender = Sender(transport(receiver.url, 0.05), events, most=5)
    for frame in range(100):
        sender.put(verdict(frame))
    assert sender.lost >= 94
    eventually(lambda: sender.lost >= 97)
    release.set()
    receiver.answer = receiver.take
    eventually(lambda: (sender.put(verdict(200)), 200 in receiver.frames)[1])
    sender.close(5.0)
    assert events.kinds[0] == "verdicts_lost" and len(events) == 2
    assert "line=1" not in str(events)


def test_a_receiver_that_is_dead_and_comes_back(
    free_port: int, events: Any, verdict: Any, eventually: Eventually
) -> None:
    sender = Sender(transport(f"http://127.0.0.1:{free_port}/"), events)
    for frame in range(20):
        sender.put(verdict(frame))
    eventually(lambda: sender.lost == 20)
    assert events == [("verdicts_lost", f"http://127.0.0.1:{free_port}: connection refused")]
    with socket.create_server(("127.0.0.1", free_port)) as server:
        sender.put(verdict(20))
        connection = server.accept()[0]
        heard = b""
        while not heard.endswith(b"}"):
            heard += connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        sender.close(5.0)
        connection.close()
    assert b'"frame":20,' in heard and sender.lost == 20
