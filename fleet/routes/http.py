"""HTTP POST for routes: no redirects, bounded answers, failures in words without the path, which may be a secret."""

from __future__ import annotations

import logging
import ssl
from typing import Any
from urllib.parse import urlsplit

from device_agent.contract.credentials import Credentials
from device_agent.contract.errors import BadInput
from device_agent.contract.optional import require
from fleet.routes import NotTaken

MOST_ANSWER = 1 << 16
LONGEST_WAIT_S = 3600.0
REFUSED = (400, 413, 414, 415, 422)
"""Statuses that are about this message; anything else may pass with time."""


class Post:
    """A receiver at a URL.

    Args:
        url: of http or https, without user and password.
        credentials: whom to trust instead of the system's authorities.
        timeout_s: for connecting and for each wait for the receiver.

    Raises:
        BadInput, NotFound: no such URL, or no such authority. MissingPackage: httpx is not installed.
    """

    def __init__(self, url: str, credentials: Credentials, timeout_s: float) -> None:
        self._httpx = require("httpx", extra="fleet")
        hush("httpx", "httpcore")
        self._url, self.name = url, _check(url)
        context: ssl.SSLContext | bool = credentials.context() if self.name.startswith("https") else False
        self._client = self._httpx.Client(
            verify=context, timeout=timeout_s, follow_redirects=False, trust_env=False,
            headers={"User-Agent": "lineside-fleet"},
        )  # fmt: skip

    def send(self, path: str, body: bytes, headers: dict[str, str]) -> None:
        """POST JSON to the URL and `path` behind it; returns once the receiver took it (2xx).

        Raises:
            NotTaken: it is away, too slow, refuses, or does not speak HTTP.
        """
        try:
            with self._client.stream(
                "POST", self._url.rstrip("/") + path if path else self._url, content=body,
                headers={"Content-Type": "application/json", **headers},
            ) as answer:  # fmt: skip
                status, wait_s = answer.status_code, _wait_s(answer.headers)
                said = "" if 200 <= status < 300 else _beginning(answer)
        except self._httpx.TimeoutException:
            raise NotTaken(f"{self.name} does not answer in time") from None
        except self._httpx.HTTPError as error:
            raise NotTaken(f"{self.name}: {_said(error)}") from None
        if not 200 <= status < 300:
            of = f" ({said})" if said else ""
            raise NotTaken(f"{self.name} answers with status {status}{of}", wait_s=wait_s, refused=status in REFUSED)

    def close(self) -> None:
        """Hang up."""
        self._client.close()


def hush(*loggers: str) -> None:
    """Keep libraries from logging the URLs that they speak to, which hold secrets, whatever level this program logs."""
    for name in loggers:
        logger = logging.getLogger(name)
        logger.setLevel(logging.WARNING)
        logger.addFilter(_unseen)


def _unseen(_record: logging.LogRecord) -> bool:
    return False


def _check(url: str) -> str:
    """Scheme, host and port of a URL, which may be shown."""
    wrong = BadInput("url: must read like https://host:port/path, without user and password")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise wrong from None
    plain = url.isascii() and url.isprintable() and " " not in url
    if not plain or parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or port == 0:
        raise wrong
    return f"{parts.scheme}://{parts.netloc}"


def _wait_s(headers: Any) -> float:
    """Seconds that a receiver asked to wait; 0 where it did not, or gave a date."""
    asked = str(headers.get("retry-after", "")).strip()
    return min(float(asked), LONGEST_WAIT_S) if asked.isascii() and asked.isdecimal() and len(asked) < 9 else 0.0


def _beginning(answer: Any) -> str:
    """The first words of an answer, on one line."""
    content = b""
    for piece in answer.iter_bytes(4096):
        content += piece
        if len(content) >= 256:
            break
    text = " ".join(content[:256].decode(errors="replace").split())
    return "".join(each if each.isprintable() else "\ufffd" for each in text)[:100]


def _said(error: Exception) -> str:
    """Why a request failed, in words."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted: {cause.verify_message.lower().rstrip('.')}"
        if isinstance(cause, ssl.SSLError):
            return f"refuses TLS: {(cause.reason or str(cause)).lower().replace('_', ' ')}"
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror.lower()
        cause = cause.__cause__ or cause.__context__
    return (str(error) or type(error).__name__).splitlines()[0].lower()[:200]
