"""Who comes in: TLS with a certificate of the fleet, so many connections at once, each for a limited time."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from device_agent.contract.credentials import look_at
from device_agent.contract.errors import BadInput, LinesideError, NotFound


class Limits(NamedTuple):
    """Connections in all and of one address; seconds for TLS and the head of a request, for the peer's silence, and for
    a body, which may take longer by its length at `least_bytes_s`."""

    connections: int = 64
    of_one_address: int = 16
    head_s: float = 10.0
    silent_s: float = 10.0
    body_s: float = 30.0
    least_bytes_s: float = 2048.0


class Keys:
    """TLS of the receiver, from four files of the fleet's keys: authority.pem, revoked.pem, monitor.pem, monitor.key.

    They are read again when one changes, so that a device that is taken back is refused at its next connection.
    """

    NAMES = ("authority.pem", "revoked.pem", "monitor.pem", "monitor.key")

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self._paths, self._say = [folder / name for name in self.NAMES], say
        self._read_at: tuple[int, ...] = ()
        self._context = self._load()

    def context(self) -> ssl.SSLContext:
        """For the next connection. Files that cannot be read now leave it as it was, and that is said."""
        try:
            if self._stamps() != self._read_at:
                self._context = self._load()
                self._say("the fleet's keys were read again")
        except (LinesideError, OSError) as error:
            self._read_at = self._stamps_or_none()
            self._say(f"the fleet's keys changed and cannot be read, the old ones hold on: {error}")
        return self._context

    def _stamps(self) -> tuple[int, ...]:
        return tuple(path.stat().st_mtime_ns for path in self._paths)

    def _stamps_or_none(self) -> tuple[int, ...]:
        try:
            return self._stamps()
        except OSError:
            return self._read_at

    def _load(self) -> ssl.SSLContext:
        """
        Raises:
            NotFound, BadInput: a file is not there, or is not what it has to be.
        """
        authority, revoked, cert, key = self._paths
        if authority.exists() and not cert.exists():
            raise NotFound(f"{cert}: no such file; make it with: lineside-fleet samples certificate --host NAME")
        for path in self._paths:
            look_at("keys", path)
        stamps = self._stamps()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.num_tickets = 0  # a resumed session would not be asked for its certificate again
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        try:
            context.load_verify_locations(authority)
            context.load_verify_locations(revoked)
            context.load_cert_chain(cert, key, password=lambda: "")
        except ssl.SSLError as error:
            names = ", ".join(self.NAMES)
            raise BadInput(f"{authority.parent}: {names} do not fit: {error.reason or error}") from None
        if not context.cert_store_stats()["crl"]:
            raise BadInput(f"{revoked}: holds no list of certificates that were taken back")
        self._read_at = stamps
        return context


def common_name(connection: ssl.SSLSocket) -> str:
    """Whom the peer's certificate names; empty if nobody."""
    found: Any = connection.getpeercert()
    names = [value for part in found.get("subject", ()) for field, value in part if field == "commonName"]
    return str(names[0]) if len(names) == 1 else ""


class Places:
    """How many connections there are, in all and by address."""

    def __init__(self, limits: Limits) -> None:
        self._limits, self._lock = limits, threading.Lock()
        self._of: Counter[str] = Counter()

    def enter(self, address: str) -> bool:
        """Take a place, if there is one."""
        with self._lock:
            if self._of.total() >= self._limits.connections or self._of[address] >= self._limits.of_one_address:
                return False
            self._of[address] += 1
            return True

    def leave(self, address: str) -> None:
        """Give the place back."""
        with self._lock:
            self._of[address] -= 1
            if self._of[address] <= 0:
                del self._of[address]


class Deadlines:
    """Ends connections that are over their time, whatever they wait for: a peer that sends a byte now and then is never
    silent."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ends: dict[socket.socket, float] = {}

    def set(self, connection: socket.socket, seconds: float) -> None:
        """From now on so many seconds are left."""
        with self._lock:
            self._ends[connection] = time.monotonic() + seconds

    def clear(self, connection: socket.socket) -> None:
        """It is closed by its own thread."""
        with self._lock:
            self._ends.pop(connection, None)

    def enforce(self) -> None:
        """End those that are over; to be called often."""
        now = time.monotonic()
        with self._lock:
            for connection in [each for each, end in self._ends.items() if now >= end]:
                del self._ends[connection]
                try:  # not SSLSocket.shutdown, which takes the TLS state away from the thread that uses it
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)
                except OSError:  # gone already
                    continue
