"""A small HTTP server with hard limits: GET only, fixed paths, 8 connections, 8 KiB and 5 s a request."""

from __future__ import annotations

import errno
import io
import socket
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qs, urlsplit

from device_agent.contract.errors import NotWritable
from device_agent.local.hosts import host_of, is_address, own_names
from device_agent.local.settings import Listen

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MOST_CONNECTIONS = 8
MOST_BYTES = 8 << 10
MOST_S = 5.0
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
_BUSY = b"HTTP/1.0 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Request(NamedTuple):
    """A GET: its query, and the headers by lower-case name; `peer` is who asks."""

    query: Mapping[str, str]
    headers: Mapping[str, str]
    peer: str


class Answer(NamedTuple):
    """Content with its type; `headers` come on top of, or instead of, the server's own."""

    content: bytes
    kind: str = "text/plain; charset=utf-8"
    status: int = 200
    headers: Mapping[str, str] = {}


Route = Callable[[Request], Answer]


class LocalServer:
    """Answers the paths in `routes` and nothing else, from threads of its own, until it is closed.

    A request must name this host: a page of somebody else, whose name was made to lead here (DNS rebinding), says that
    name and is refused.

    Raises:
        NotWritable: the address cannot be listened on.
    """

    def __init__(self, listen: Listen, routes: Mapping[str, Route], hosts: Collection[str] = ()) -> None:
        self._names = own_names(hosts)
        self._routes = routes
        server = self

        class Bound(_Handler):
            local = server

        kind = _Server6 if ":" in listen.host else _Server
        try:
            self._server = kind(listen, Bound)
        except OSError as error:
            where = f"{listen.host}:{listen.port}"
            raise NotWritable(f"{where}: cannot be listened on: {(error.strerror or str(error)).lower()}") from error
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.2,), name="local", daemon=True)
        self._thread.start()

    def answer(self, path: str, request: Request) -> Answer:
        """What a path says to a request."""
        host = host_of(request.headers.get("host", ""))
        if not (is_address(host) or host in self._names):
            return Answer(b"no page for this host; see allow_host\n", status=HTTPStatus.MISDIRECTED_REQUEST)
        route = self._routes.get(path)
        return route(request) if route else Answer(b"no such page\n", status=HTTPStatus.NOT_FOUND)

    def close(self) -> None:
        """Close the port; answers on their way are finished or cut within 5 s."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(MOST_S)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = MOST_CONNECTIONS

    def __init__(self, listen: Listen, handler: type[_Handler]) -> None:
        self._free = threading.BoundedSemaphore(MOST_CONNECTIONS)
        super().__init__(listen, handler)

    def server_bind(self) -> None:
        """Bind without asking a name server who we are."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    def process_request(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        """Serve in a thread of its own; one too many is told so at once."""
        assert isinstance(request, socket.socket)
        if self._free.acquire(blocking=False):
            try:
                super().process_request(request, client_address)
            except RuntimeError:  # no further thread
                self._free.release()
                self.shutdown_request(request)
        else:
            with suppress(OSError):
                request.settimeout(0.0)
                request.send(_BUSY)
            self.shutdown_request(request)

    def process_request_thread(
        self, request: socket.socket | tuple[bytes, socket.socket], client_address: object
    ) -> None:
        """Serve, and make room for the next."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """Whoever asked has gone, or was too slow; only what is a fault of this program is shown."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Bounded(io.RawIOBase):
    """Bytes of a socket, at most `MOST_BYTES` and at most `MOST_S` after the first call, however they trickle."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection, self._left, self._end = connection, MOST_BYTES, time.monotonic() + MOST_S

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """As RawIOBase; raises TimeoutError when the time is over, and OSError after too many bytes."""
        if not self._left:
            raise OSError(errno.EMSGSIZE, "the request is too long")
        view = memoryview(buffer)[: self._left]
        time_left = self._end - time.monotonic()
        if time_left <= 0:
            raise TimeoutError("the request took too long")
        self._connection.settimeout(time_left)
        received = self._connection.recv_into(view)
        self._left -= received
        return received


class _Handler(BaseHTTPRequestHandler):
    """One request, one answer, and the connection is closed (HTTP/1.0)."""

    local: LocalServer
    server_version, sys_version = "lineside", ""
    timeout = MOST_S

    def setup(self) -> None:
        """As the base, with a bounded reader."""
        super().setup()
        self.rfile = io.BufferedReader(_Bounded(self.connection))

    def do_GET(self) -> None:
        """Answer a fixed path."""
        self.connection.settimeout(MOST_S)
        if self.headers.get("Transfer-Encoding") or self.headers.get("Content-Length", "0") != "0":
            self._send(Answer(b"no body is taken\n", status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE))
            return
        try:
            target = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(target.query, max_num_fields=4).items()}
        except ValueError:
            self._send(Answer(b"no such page\n", status=HTTPStatus.BAD_REQUEST))
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        if self.headers.get_all("Host", []) != [headers.get("host")]:
            self._send(Answer(b"exactly one Host is expected\n", status=HTTPStatus.BAD_REQUEST))
            return
        self._send(self.local.answer(target.path, Request(query, headers, str(self.client_address[0]))))

    def _refuse(self) -> None:
        self._send(Answer(b"only GET is taken\n", status=HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": "GET"}))

    do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_TRACE = do_CONNECT = _refuse

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        own = {"Content-Type": answer.kind, "Content-Length": str(len(answer.content)), "Connection": "close"}
        for name, value in {**_HEADERS, **own, **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.content)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the base refuses, in our own words: nothing of the request is repeated."""
        self._send(Answer(b"not a request that is taken\n", status=code))

    def log_message(self, format: str, *args: object) -> None:
        """Requests are not logged: an address may carry a token."""
