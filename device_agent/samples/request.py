"""One sample over HTTPS: PUT it under its name, and what the monitor says of it."""

from __future__ import annotations

import http.client
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from enum import Enum
from typing import NamedTuple

from device_agent.contract.credentials import Credentials
from device_agent.contract.errors import LinesideError
from device_agent.samples.settings import Address

CHUNK = 8 << 10
TIMEOUT_S = 20.0
LONGEST_WAIT_S = 3600.0
_CLOSED = (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
_REFUSED = {400, 413, 422}
_SAID = {
    401: "the monitor does not know this device",
    403: "the certificate is another device's",
    404: "no receiver of samples is there",
    429: "the monitor asks for time",
    507: "the monitor's disk is full",
}


class Fate(Enum):
    """What became of one attempt."""

    STORED = "stored"
    REFUSED = "refused"
    LATER = "later"


class Outcome(NamedTuple):
    """`why` is for a person; `wait_s` is what the monitor asks for, None if it did not."""

    fate: Fate
    why: str = ""
    wait_s: float | None = None


class _Ended(Exception):
    """The agent stops."""


def put(
    address: Address,
    path: str,
    content: bytes,
    credentials: Credentials,
    *,
    name: str,
    kib_s: float,
    stop: threading.Event,
) -> Outcome:
    """Send a sample called `name` to `path`; it ends when `stop` is set. No redirect is followed."""
    headers = {"Content-Length": str(len(content)), "Content-Type": "application/octet-stream"}
    try:
        with closing(_connect(address, credentials)) as connection:
            with suppress(*_CLOSED):  # it may have answered before it had all
                connection.request("PUT", address.path + path, body=_paced(content, kib_s, stop), headers=headers)
            return _judge(connection.getresponse(), name)
    except _Ended:
        return Outcome(Fate.LATER, "the agent stops")
    except LinesideError as error:
        return Outcome(Fate.LATER, str(error))
    except (OSError, http.client.HTTPException, ValueError) as error:
        return Outcome(Fate.LATER, _explained(error))


def _connect(address: Address, credentials: Credentials) -> http.client.HTTPSConnection:
    connection = http.client.HTTPSConnection(
        address.host, address.port, timeout=TIMEOUT_S, context=credentials.context()
    )
    try:
        connection.connect()
    except BaseException:
        connection.close()
        raise
    return connection


def _paced(content: bytes, kib_s: float, stop: threading.Event) -> Iterator[bytes]:
    """The content in pieces, no faster than the rate."""
    started = time.monotonic()
    for begin in range(0, len(content), CHUNK):
        if stop.wait(max(0.0, started + begin / (kib_s * 1024) - time.monotonic())):
            raise _Ended
        yield content[begin : begin + CHUNK]


def _judge(answer: http.client.HTTPResponse, name: str) -> Outcome:
    status = answer.status
    same = status == 409 and answer.getheader("ETag", "").strip('"') == name
    if status in (200, 201) or same:
        return Outcome(Fate.STORED)
    said = answer.read(200).decode("utf-8", "replace").strip().partition("\n")[0]
    why = f"{_SAID.get(status, 'the monitor answers')} ({status}{': ' if said else ''}{said})"
    if status in _REFUSED:
        return Outcome(Fate.REFUSED, why)
    asked = answer.getheader("Retry-After", "")
    return Outcome(Fate.LATER, why, min(float(asked), LONGEST_WAIT_S) if asked.isascii() and asked.isdigit() else None)


def _explained(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the monitor's certificate is not trusted: {error.verify_message.lower().rstrip('.')}"
    if isinstance(error, _CLOSED):
        return "the monitor closed the connection"
    if isinstance(error, ssl.SSLError):
        said = (error.reason or str(error)).lower().replace("_", " ")
        return f"the monitor refuses TLS: {said.partition('alert ')[2] or said}"
    if isinstance(error, TimeoutError):
        return "the monitor does not answer"
    if isinstance(error, OSError):
        return (error.strerror or str(error) or type(error).__name__).lower()
    return "the monitor does not speak HTTP"
