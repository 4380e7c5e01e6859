"""`PUT /samples/DEVICE/SHA256` over HTTPS, for devices with a certificate of the fleet and nobody else."""

from __future__ import annotations

import errno
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from typing import Any

from device_agent.contract.errors import BadInput, NotWritable
from fleet.samples.archive import Archive
from fleet.samples.door import Deadlines, Keys, Limits, Places, common_name
from fleet.samples.intake import Intake, Refused
from fleet.wording import printable

SAID_AGAIN_S = 60.0
MOST_SAID = 1000
TICK_S = 0.25
EXPIRE_S = 3600.0
_PIECE = 64 << 10


class Receiver(ThreadingMixIn, TCPServer):
    """The server, listening when it is made; `run` serves.

    Raises:
        BadInput: the address is none of this machine, or taken.
    """

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(
        self, address: tuple[str, int], keys: Keys, intake: Intake, say: Callable[[str], None], limits: Limits
    ) -> None:
        self.keys, self.intake, self.limits, self._say = keys, intake, limits, say
        self.deadlines, self._places = Deadlines(), Places(limits)
        self._said: dict[str, float] = {}
        self._said_lock = threading.Lock()
        try:
            self.address_family = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0][0]
            super().__init__(address, Handler)
        except OSError as error:
            cause = "the port is taken" if error.errno == errno.EADDRINUSE else (error.strerror or str(error)).lower()
            raise BadInput(f"cannot listen on {address[0]}:{address[1]}: {cause}; give another --listen") from None

    def say_once(self, what: str, text: str) -> None:
        """Say something that others can bring about at will: at most once a minute for each `what`."""
        now = time.monotonic()
        with self._said_lock:
            if now - self._said.get(what, -SAID_AGAIN_S) < SAID_AGAIN_S or len(self._said) >= MOST_SAID:
                self._said = {key: at for key, at in self._said.items() if now - at < SAID_AGAIN_S}
                return
            self._said[what] = now
        self._say(printable(text))

    def process_request(self, request: Any, client_address: Any) -> None:
        """Give a connection a thread, or close it where there are too many."""
        if not self._places.enter(client_address[0]):
            self.say_once("places", f"too many connections; one from {client_address[0]} was closed")
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread can be started
            self._places.leave(client_address[0])
            self.shutdown_request(request)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """TLS and one request, in a thread of its own."""
        secured = None
        try:
            request.settimeout(self.limits.silent_s)
            secured = self.keys.context().wrap_socket(request, server_side=True, do_handshake_on_connect=False)
            self.deadlines.set(secured, self.limits.head_s)
            secured.do_handshake()
            super().finish_request(secured, client_address)
        finally:
            if secured is not None:
                self.deadlines.clear(secured)
                self.shutdown_request(secured)
            self._places.leave(client_address[0])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A peer that failed is said; so is a bug, with its kind; the server goes on."""
        error, address = sys.exc_info()[1], client_address[0]
        if isinstance(error, OSError | ValueError):  # ValueError: TLS of a socket that ended meanwhile
            cause = _cause(error)
            self.say_once(f"{address} {cause}", f"{address}: no request: {cause}")
        else:
            self.say_once("error", f"{address}: {type(error).__name__}: {error}")

    def run(self, stop: threading.Event, tend: Callable[[], None] = lambda: None) -> None:
        """Serve until `stop` is set; `tend` is called hourly."""
        accept = threading.Thread(target=self.serve_forever, args=(TICK_S,), name="accept", daemon=True)
        accept.start()
        due = time.monotonic()
        try:
            while not stop.wait(TICK_S):
                self.deadlines.enforce()
                if time.monotonic() >= due:
                    due = time.monotonic() + EXPIRE_S
                    tend()
        finally:
            self.shutdown()
            self.server_close()


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Receiver
    connection: ssl.SSLSocket

    def do_PUT(self) -> None:
        """Take a sample."""
        server, name = self.server, common_name(self.connection)
        length = self.headers.get("Content-Length")
        try:
            with server.intake.turn(name):
                status, text, retry_s = *self._take(name, length), None
        except Refused as refused:
            status, text, retry_s = refused.status, refused.text, refused.retry_s
            server.say_once(f"{name} {status}", f"{name}: refused ({status}): {text}")
        except NotWritable as error:
            status, text, retry_s = 507, "no sample can be stored at this time", 60
            server.say_once("disk", f"samples cannot be stored: {error}")
        self._answer(status, text, retry_s)
        if status >= 400:
            self._drain()

    def _take(self, name: str, length: str | None) -> tuple[int, str]:
        intake, limits = self.server.intake, self.server.limits
        wanted = intake.judge(name, self.path, length, chunked="Transfer-Encoding" in self.headers)
        self.server.deadlines.set(self.connection, limits.body_s + wanted.length / limits.least_bytes_s)
        body = self.rfile.read(wanted.length)
        self._left = 0
        if len(body) < wanted.length:
            raise Refused(400, f"{len(body)} bytes came, {wanted.length} were announced")
        intake.take(wanted, body)
        return (200, "was here already") if wanted.known else (201, "stored")

    _left = 1 << 62

    def _drain(self) -> None:
        """Read on for a while what nobody wants: closing on unread bytes could take the answer away from the peer."""
        left = min(self._left, self.server.intake.most_bytes)
        self.server.deadlines.set(self.connection, self.server.limits.body_s)
        while left > 0 and (piece := self.rfile.read1(min(left, _PIECE))):
            left -= len(piece)

    def _answer(self, status: int, text: str, retry_s: int | None) -> None:
        content = text.encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        if retry_s is not None:
            self.send_header("Retry-After", str(retry_s))
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    def version_string(self) -> str:
        """Nothing that helps an attacker."""
        return "lineside"

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged one by one."""


def _cause(error: Exception) -> str:
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError | ConnectionError):
        return "the peer closed the connection"
    reason = error.reason if isinstance(error, ssl.SSLError) else None
    said = reason or getattr(error, "strerror", None) or str(error) or type(error).__name__
    return said.lower().replace("_", " ")


def expire(archive: Archive, keep_days: float, now_ms: int, say: Callable[[str], None]) -> None:
    """Remove samples that are over their time, and say how many."""
    try:
        gone = archive.expire(now_ms - int(keep_days * 86_400_000))
    except NotWritable as error:
        say(str(error))
        return
    if gone:
        say(f"{gone} samples were over {keep_days:g} days old and removed")
