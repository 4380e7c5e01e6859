"""Which Host headers are answered: a page of somebody else, whose name was made to lead here, reads nothing."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send


class OwnHosts:
    """Middleware that refuses requests for other hosts. A browser that was led here by a name of somebody else (DNS
    rebinding) says that name; so addresses, localhost, this machine's name and the given `names` are answered."""

    def __init__(self, app: ASGIApp, names: Collection[str] = ()) -> None:
        self._app = app
        machine = socket.gethostname().partition(".")[0]
        own = ("localhost", machine, f"{machine}.local", socket.gethostname(), socket.getfqdn(), *names)
        self._names = {host_of(name) for name in own}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            host = host_of(Headers(scope=scope).get("host", ""))
            if not (is_address(host) or host in self._names):
                refusal = PlainTextResponse(f"no page for the host {host!r}; see serve --allow-host\n", 400)
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)


def host_of(header: str) -> str:
    """The host of a Host header, without its port.

    >>> host_of("Monitor.plant:8080"), host_of("[::1]:8080"), host_of("10.0.0.7")
    ('monitor.plant', '::1', '10.0.0.7')
    """
    host = header[1:].partition("]")[0] if header.startswith("[") else header.partition(":")[0]
    return host.lower().rstrip(".")


def is_address(host: str) -> bool:
    """Whether a host is an IP address.

    >>> is_address("::1"), is_address("10.0.0.7"), is_address("10.0.0.7.example.org")
    (True, True, False)
    """
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
