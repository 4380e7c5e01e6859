"""`--metrics HOST:PORT`: /metrics, /healthz and /readyz over plain HTTP, in a thread of its own."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

import msgspec

from device_agent.contract.errors import BadInput
from fleet.operations.health import Health

TEXT, JSON = "text/plain; version=1.0.0; charset=utf-8", "application/json"
REQUEST_S = 5.0


class Answer(NamedTuple):
    """Status, type and body."""

    status: int
    kind: str
    body: bytes


def parse_listen(text: str) -> tuple[str, int]:
    """Host and port.

    >>> parse_listen("127.0.0.1:9109"), parse_listen("[::1]:0")
    (('127.0.0.1', 9109), ('::1', 0))

    Raises:
        BadInput: not HOST:PORT.
    """
    host, colon, port = text.rpartition(":")
    if not (colon and host and port.isascii() and port.isdecimal() and int(port) <= 65535):
        raise BadInput(f"--metrics {text!r}: must be HOST:PORT, for example 127.0.0.1:9109")
    return host.strip("[]"), int(port)


def respond(path: str, metrics: Callable[[], bytes], health: Callable[[], Health]) -> Answer:
    """What a path answers: 200, or 503 with the reason, or 404."""
    name = path.partition("?")[0]
    if name == "/metrics":
        return Answer(200, TEXT, metrics())
    if name in ("/healthz", "/readyz"):
        found = health()
        good = found.alive if name == "/healthz" else found.ready
        return Answer(200 if good else 503, JSON, msgspec.json.encode(found))
    return Answer(404, JSON, b'{"error":"only /metrics, /healthz and /readyz are here"}')


@contextmanager
def listening(
    host: str, port: int, metrics: Callable[[], bytes], health: Callable[[], Health]
) -> Iterator[tuple[str, int]]:
    """Serve while the block runs; its address, with the port that was found free for 0.

    Raises:
        BadInput: the port is taken, or the address is none of this machine.
    """

    class Reader(BaseHTTPRequestHandler):
        timeout = REQUEST_S

        def do_GET(self) -> None:
            answer = respond(self.path, metrics, health)
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.kind)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, *_: object) -> None:
            """Scrapes are no news."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

        def handle_error(self, *_: object) -> None:
            """A reader that went away is no news either."""

    try:
        server = Server((host, port), Reader)
    except OSError as error:
        cause = (error.strerror or str(error)).lower()
        raise BadInput(f"--metrics: cannot listen on {host}:{port}: {cause}; give another port") from None
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    try:
        yield str(server.server_address[0]), int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
