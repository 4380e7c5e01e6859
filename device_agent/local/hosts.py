"""Whom a Host header may name: this machine by its names, or any address."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection


def own_names(more: Collection[str] = ()) -> frozenset[str]:
    """The names of this host, with `more`."""
    machine = socket.gethostname()
    short = machine.partition(".")[0]
    return frozenset(host_of(name) for name in ("localhost", machine, short, f"{short}.local", *more))


def host_of(header: str) -> str:
    """The host of a Host header, without its port.

    >>> host_of("Press-1.plant:8080"), host_of("[::1]:8080"), host_of("10.0.0.7")
    ('press-1.plant', '::1', '10.0.0.7')
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
