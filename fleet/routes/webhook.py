"""Alerts as signed HTTP POST requests."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping, MutableSet

import msgspec

from device_agent.contract.errors import BadInput, TrustFailed
from fleet.routes import Notice
from fleet.routes.http import Post
from fleet.routes.settings import Wiring

ID, TIMESTAMP, SIGNATURE = "X-Lineside-Id", "X-Lineside-Timestamp", "X-Lineside-Signature"
LEAST_SECRET = 16
MOST_ITEMS = 500


class WebhookRoute:
    """POSTs a notice as JSON. With a secret it is signed together with its id and the time at which it was sent.

    Raises:
        BadInput: no URL of http or https, or a secret that is too short.
    """

    def __init__(self, wiring: Wiring, *, clock_s: Callable[[], float] | None = None) -> None:
        import time

        if wiring.secret and len(wiring.secret) < LEAST_SECRET:
            raise BadInput(f"secret: {len(wiring.secret)} bytes are too few, {LEAST_SECRET} or more are wanted")
        self._secret, self._clock_s = wiring.secret, clock_s or time.time
        self._post = Post(wiring.url, wiring.credentials, wiring.settings.timeout_s)

    def take(self, notice: Notice) -> None:
        """POST it; of a digest at most `MOST_ITEMS` alerts are in it, `counts` has all.

        Raises:
            NotTaken: the receiver does not have it.
        """
        body = msgspec.json.encode(msgspec.structs.replace(notice, items=notice.items[:MOST_ITEMS]))
        sent = str(int(self._clock_s()))
        headers = {ID: notice.id, TIMESTAMP: sent}
        if self._secret:
            headers[SIGNATURE] = sign(self._secret, notice.id, sent, body)
        self._post.send("", body, headers)

    def close(self) -> None:
        """Hang up."""
        self._post.close()


def sign(secret: bytes, notice_id: str, timestamp: str, body: bytes) -> str:
    """Value of the header X-Lineside-Signature: HMAC-SHA256 of id, time and body with dots between them.

    >>> sign(b"0123456789abcdef", "ab12", "1700000000", b"{}")[:15]
    'sha256=d49e7d39'
    """
    signed = b".".join((notice_id.encode(), timestamp.encode(), body))
    return f"sha256={hmac.new(secret, signed, hashlib.sha256).hexdigest()}"


def verify(
    secret: bytes,
    headers: Mapping[str, str],
    body: bytes,
    now_s: float,
    *,
    seen: MutableSet[str] | None = None,
    tolerance_s: float = 300.0,
) -> str:
    """The id of a notice that a receiver got, if it is what was signed.

    Args:
        headers: of the request; names in any case.
        seen: ids that came before; the id is added. Keep each for twice `tolerance_s` at least.
        tolerance_s: how far the sender's clock may be off.

    Raises:
        TrustFailed: not signed with this secret, too old, from the future, or replayed.
    """
    given = {name.lower(): value for name, value in headers.items()}
    notice_id, sent, signature = (given.get(name.lower(), "") for name in (ID, TIMESTAMP, SIGNATURE))
    if not hmac.compare_digest(sign(secret, notice_id, sent, body).encode(), signature.encode(errors="replace")):
        raise TrustFailed("webhook: the signature does not fit this body, id and time")
    if not (sent.isascii() and sent.isdecimal()) or abs(now_s - int(sent)) > tolerance_s:
        raise TrustFailed(f"webhook: sent at {sent!r}, more than {tolerance_s:g} s away from now")
    if seen is not None:
        if notice_id in seen:
            raise TrustFailed(f"webhook: {notice_id!r} came before")
        seen.add(notice_id)
    return notice_id
