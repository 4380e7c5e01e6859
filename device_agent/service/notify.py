"""What systemd is told: sd_notify(3), without its library."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress

READY_S = 2.0


class Notifier:
    """Speaks to the socket that NOTIFY_SOCKET names; without one every call does nothing.

    Nothing here raises, and only `ready` may wait, for 2 s: a message that cannot be sent is lost. `interval_s` is how
    often the watchdog is to be fed, half of WATCHDOG_USEC; None where systemd expects nothing of this process.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        environment = os.environ if environment is None else environment
        self._socket = _connect(environment.get("NOTIFY_SOCKET", ""))
        self.interval_s = _interval_s(environment) if self._socket else None

    def ready(self, status: str) -> None:
        """The agent serves."""
        self._send(f"READY=1\nSTATUS={_line(status)}", timeout_s=READY_S)

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send(f"STATUS={_line(text)}")

    def watchdog(self) -> None:
        """All is well for another interval."""
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """The agent ends."""
        self._send("STOPPING=1")

    def _send(self, text: str, *, timeout_s: float = 0.0) -> None:
        if self._socket is not None:
            with suppress(OSError):
                self._socket.settimeout(timeout_s)
                self._socket.send(text.encode(errors="replace"))


def _connect(address: str) -> socket.socket | None:
    """A datagram socket to a path, or with a leading @ to an abstract name; None where there is none."""
    if address[:1] not in ("/", "@"):
        return None
    found = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        found.connect("\0" + address[1:] if address.startswith("@") else address)
    except (OSError, ValueError):
        found.close()
        return None
    return found


def _interval_s(environment: Mapping[str, str]) -> float | None:
    """
    >>> _interval_s({"WATCHDOG_USEC": "30000000"}), _interval_s({"WATCHDOG_USEC": "5", "WATCHDOG_PID": "1"})
    (15.0, None)
    """
    usec, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not (usec.isascii() and usec.isdecimal() and int(usec)) or (pid and pid != str(os.getpid())):
        return None
    return int(usec) / 2e6


def _line(text: str) -> str:
    return " ".join(text.split())[:300]
