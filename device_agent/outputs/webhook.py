"""Verdicts as HTTP POST requests, one each, on a connection that is kept."""

from __future__ import annotations

import hashlib
import hmac
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec

from device_agent.contract.credentials import Credentials, look_at
from device_agent.contract.errors import BadInput
from device_agent.contract.review import Verdict
from device_agent.outputs import NotTaken

SIGNATURE = "X-Lineside-Signature"
LEAST_SECRET = 16
MOST_ANSWER = 1 << 16


class Address(NamedTuple):
    """Where to POST; `str()` of it shows neither path nor query, which may hold a token."""

    host: str
    port: int
    path: str
    tls: bool

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"


def parse_webhook(url: str) -> Address:
    """The parts of a URL.

    >>> parse_webhook("http://localhost:8080/verdict?line=1")
    Address(host='localhost', port=8080, path='/verdict?line=1', tls=False)

    Raises:
        BadInput: no URL of http or https, or one with a password, which a signature serves better.
    """
    wrong = BadInput("webhook: must read like http://localhost:8080/verdict, without user and password")
    if not (url.isascii() and url.isprintable()) or " " in url:
        raise wrong
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise wrong from None
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or port == 0:
        raise wrong
    tls = parts.scheme == "https"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Address(parts.hostname, port or (443 if tls else 80), path, tls)


def read_secret(path: Path) -> bytes:
    """The key of the signature: what the file holds, without white space around it.

    Raises:
        NotFound, BadInput: it is not there, other users may read it, or it is too short.
    """
    secret = look_at("webhook_secret", path).strip()
    if path.stat().st_mode & 0o077:
        raise BadInput(f"webhook_secret {path}: other users may read or write it; chmod 600 {path}")
    if len(secret) < LEAST_SECRET:
        raise BadInput(f"webhook_secret {path}: {len(secret)} bytes are too few, {LEAST_SECRET} or more are wanted")
    return secret


def signature(secret: bytes, body: bytes) -> str:
    """Value of the header X-Lineside-Signature: HMAC-SHA256 of the body.

    >>> signature(b"0123456789abcdef", b"{}")[:15]
    'sha256=f91e3e9f'
    """
    return f"sha256={hmac.new(secret, body, hashlib.sha256).hexdigest()}"


class WebhookTransport:
    """POSTs one verdict at a time; any 2xx is taken, a redirection is not followed. A connection that the receiver
    closed while it was idle is opened once more, so a receiver that breaks off may see a `frame` twice.

    Args:
        timeout_s: for connecting, and for each wait for the receiver.

    Raises:
        NotFound, BadInput: as for `Credentials.context`.
    """

    def __init__(
        self,
        address: Address,
        *,
        secret: bytes | None = None,
        credentials: Credentials = Credentials(),  # noqa: B008
        timeout_s: float = 2.0,
    ) -> None:
        self.name, self._address, self._secret = str(address), address, secret
        self._connection = (
            HTTPSConnection(address.host, address.port, timeout=timeout_s, context=credentials.context())
            if address.tls
            else HTTPConnection(address.host, address.port, timeout=timeout_s)
        )

    def send(self, verdict: Verdict) -> None:
        """POST; returns when the receiver has answered.

        Raises:
            NotTaken: it is away, too slow, refuses, or does not speak HTTP.
        """
        body = msgspec.json.encode(verdict)
        kept = self._connection.sock is not None
        try:
            try:
                status = self._post(body)
            except ConnectionError:
                if not kept:
                    raise
                self._connection.close()
                status = self._post(body)
        except (OSError, HTTPException) as error:
            self._connection.close()
            raise NotTaken(_said(error)) from None
        if not 200 <= status < 300:
            raise NotTaken(f"answers with status {status}")

    def _post(self, body: bytes) -> int:
        headers = {"Content-Type": "application/json", "User-Agent": "lineside-agent"}
        if self._secret is not None:
            headers[SIGNATURE] = signature(self._secret, body)
        self._connection.request("POST", self._address.path, body, headers)
        answer = self._connection.getresponse()
        if len(answer.read(MOST_ANSWER)) == MOST_ANSWER:
            self._connection.close()
        return answer.status

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


def _said(error: Exception) -> str:
    """Why a request failed, in words.

    >>> _said(TimeoutError("timed out")), _said(ConnectionRefusedError(111, "Connection refused"))
    ('does not answer in time', 'connection refused')
    """
    if isinstance(error, TimeoutError):
        return "does not answer in time"
    if isinstance(error, HTTPException) and not isinstance(error, OSError):
        return "does not answer in HTTP"
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(reason).lower()
