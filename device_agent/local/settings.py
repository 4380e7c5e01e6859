"""The tables [preview] and [metrics] of the configuration; a table that is not there leaves its port closed."""

from __future__ import annotations

import ipaddress
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from device_agent.contract.errors import BadInput

_Name = Annotated[str, Meta(min_length=1, max_length=253)]
_Listen = Annotated[str, Meta(max_length=300)]


class Listen(NamedTuple):
    """Where a server listens: an IP address and a port, 0 for any that is free."""

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        """Whether this machine alone can reach it."""
        return ipaddress.ip_address(self.host).is_loopback


class _Endpoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`listen` is HOST:PORT; one that others on the network reach needs `expose = true`. `allow_host` are names under
    which browsers may ask for it, beside addresses, localhost and this machine's own name."""

    listen: _Listen
    expose: bool = False
    allow_host: Annotated[list[_Name], Meta(max_length=16)] = []

    def __post_init__(self) -> None:
        address = parse_listen(self.listen)
        if not (address.loopback or self.expose):
            raise BadInput(
                f"listen = {self.listen!r} is open to the network; keep to 127.0.0.1, or say expose = true with it"
            )


class PreviewSettings(_Endpoint, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[preview]: a page with the latest frame and its answer, for who has the token.

    >>> PreviewSettings(listen="0.0.0.0:8088")
    Traceback (most recent call last):
    device_agent.contract.errors.BadInput: listen = '0.0.0.0:8088' is open to the network; keep to 127.0.0.1, or say
    expose = true with it

    Raises:
        BadInput: an address that is none, or one that is open to the network without `expose`.
    """

    listen: _Listen = "127.0.0.1:8088"


class MetricsSettings(_Endpoint, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[metrics]: /metrics for Prometheus and /healthz for a supervisor, without pictures and without a token.

    Raises:
        BadInput: as for `PreviewSettings`.
    """

    listen: _Listen = "127.0.0.1:9108"


def parse_listen(text: str) -> Listen:
    """The address in HOST:PORT, an IPv6 address in brackets.

    >>> parse_listen("localhost:8088"), parse_listen("[::1]:0").host
    (Listen(host='127.0.0.1', port=8088), '::1')

    Raises:
        BadInput: the host is no IP address, or the port is not 0 to 65535.
    """
    host, _, port = text.rpartition(":")
    host = "127.0.0.1" if host == "localhost" else host[1:-1] if host[:1] + host[-1:] == "[]" else host
    try:
        ipaddress.ip_address(host)
        number = int(port) if port.isascii() and port.isdecimal() else -1
    except ValueError:
        number = -1
    if not 0 <= number <= 65535 or (":" in host and not text.startswith("[")):
        raise BadInput(f"listen = {text!r}: must be an IP address and a port, such as 127.0.0.1:8088 or [::1]:8088")
    return Listen(host, number)
