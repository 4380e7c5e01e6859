"""The address of an MQTT broker; agent and monitor read it alike."""

from __future__ import annotations

import socket
import ssl
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from device_agent.contract.credentials import Credentials
from device_agent.contract.errors import BadInput, LinesideError

ALERT_S = 1.0


class Broker(NamedTuple):
    """Where to speak MQTT; `str()` of it shows no password. `keepalive_s` is None where the program's own is good."""

    host: str
    port: int
    user: str | None = None
    password: str | None = None
    tls: bool = False
    credentials: Credentials = Credentials()
    keepalive_s: int | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port}"

    def __repr__(self) -> str:
        return f"<Broker {self}>"


def parse_broker(url: str, credentials: Credentials = Credentials()) -> Broker:  # noqa: B008
    """The broker at a URL; without a port 1883, or 8883 for mqtts. `?keepalive=20` at its end is for networks that drop
    idle connections: 6 to 3600 s.

    >>> print(parse_broker("mqtt://press:pa%20ss@10.0.0.5"))
    mqtt://10.0.0.5:1883
    >>> parse_broker("mqtt://press:pa%20ss@10.0.0.5").password
    'pa ss'
    >>> parse_broker("mqtt://10.0.0.5?keepalive=20").keepalive_s
    20

    Raises:
        BadInput: not such a URL; credentials for mqtt, which shows none.
        NotFound, BadInput: as for `Credentials.context`.
    """
    shown = f"...@{url.rpartition('@')[2]}" if "@" in url else url
    wrong = BadInput(f"broker {shown!r}: must read like mqtt://host:1883 or mqtts://user:password@host:8883")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        host.encode("idna")  # as the system's resolver will, where it would be no error that can be read
        user, password = (unquote(text) if text is not None else None for text in (parts.username, parts.password))
        f"{user}{password}".encode()
    except ValueError:
        raise wrong from None
    tls = parts.scheme == "mqtts"
    beyond = parts.path.strip("/") or parts.fragment
    plain = host.isprintable() and " " not in host
    if parts.scheme not in ("mqtt", "mqtts") or not host or not plain or beyond or port == 0 or user == "":
        raise wrong
    keepalive_s = _keepalive_s(parts.query, shown)
    if any(credentials) and not tls:
        raise BadInput(f"broker {shown!r}: --ca, --cert and --key are for mqtts://")
    if tls:
        credentials.context()
    return Broker(host, port or (8883 if tls else 1883), user, password, tls, credentials, keepalive_s)


def _keepalive_s(query: str, shown: str) -> int | None:
    if not query:
        return None
    name, _, value = query.partition("=")
    number = int(value) if value.isascii() and value.isdecimal() and len(value) < 5 else 0
    if name != "keepalive" or not 6 <= number <= 3600:
        raise BadInput(f"broker {shown!r}: must read like mqtt://host:1883, at most with ?keepalive=6 to 3600 seconds")
    return number


def handshake_fault(broker: Broker, timeout_s: float = 5.0) -> str:
    """Why TLS with the broker cannot be agreed on; empty if it can, or if nobody listens. The MQTT client does not say.

    With TLS 1.3 a broker refuses a certificate after the handshake, so what comes next is waited for.
    """
    if not broker.tls:
        return ""
    try:
        with (
            socket.create_connection((broker.host, broker.port), timeout_s) as plain,
            broker.credentials.context().wrap_socket(plain, server_hostname=broker.host) as secured,
        ):
            secured.settimeout(ALERT_S)
            secured.recv(1)
    except ssl.SSLCertVerificationError as error:
        return f"the broker's certificate is not trusted: {error.verify_message.lower().rstrip('.')}"
    except ssl.SSLError as error:
        said = (error.reason or str(error)).lower().replace("_", " ")
        return f"the broker refuses TLS: {said.partition('alert ')[2] or said}"
    except (OSError, LinesideError):
        return ""
    return ""
