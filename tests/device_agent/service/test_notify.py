"""systemd hears what it should over a real socket, and nothing that happens to the socket reaches the agent."""

from __future__ import annotations

import os
import secrets
import socket

import pytest

from device_agent.service.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    """A socket as systemd has it, and its NOTIFY_SOCKET."""
    name = str(tmp_path / "n") if request.param == "path" else f"@lineside-{secrets.token_hex(8)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as found:
        found.bind(name.replace("@", "\0") if name[0] == "@" else name)
        found.settimeout(5)
        yield found, name


def test_each_message_is_one_datagram(manager):
    heard, name = manager
    notifier = Notifier({"NOTIFY_SOCKET": name})
    notifier.ready("steel\nREADY=0 as litert-int8")
    notifier.watchdog()
    notifier.status("camera lost")
    notifier.stopping()
    assert [heard.recv(4096) for _ in range(4)] == [
        b"READY=1\nSTATUS=steel READY=0 as litert-int8",
        b"WATCHDOG=1",
        b"STATUS=camera lost",
        b"STOPPING=1",
    ]


def test_a_manager_that_does_not_read_holds_nothing_up(manager):
    heard, name = manager
    notifier = Notifier({"NOTIFY_SOCKET": name})
    for _ in range(5000):
        notifier.watchdog()
    heard.setblocking(False)
    count = 0
    with pytest.raises(BlockingIOError):
        while heard.recv(100) == b"WATCHDOG=1":
            count += 1
    assert 0 < count < 5000


def test_a_manager_that_has_gone_is_no_fault(manager):
    heard, name = manager
    notifier = Notifier({"NOTIFY_SOCKET": name})
    heard.close()
    notifier.ready("x")
    notifier.watchdog()
    notifier.stopping()


@pytest.mark.parametrize(
    "address", ["", "relative", "/no/such/socket", "@" + "x" * 200, "/" + "x" * 200, "vsock:2:1", "/a\0b"]
)
def test_without_a_socket_every_call_does_nothing(address):
    notifier = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"})
    notifier.ready("x")
    notifier.watchdog()
    assert notifier.interval_s is None


@pytest.mark.parametrize(
    ("usec", "pid", "interval_s"),
    [
        ("30000000", None, 15.0),
        ("30000000", "own", 15.0),
        ("30000000", "1", None),
        ("0", None, None),
        ("-5", None, None),
        ("soon", None, None),
        ("", None, None),
        ("٣", None, None),
    ],
)
def test_the_watchdog_is_fed_twice_as_often_as_it_must(manager, usec, pid, interval_s):
    pid = str(os.getpid()) if pid == "own" else pid
    environment = {"NOTIFY_SOCKET": manager[1], "WATCHDOG_USEC": usec, **({"WATCHDOG_PID": pid} if pid else {})}
    assert Notifier(environment).interval_s == interval_s
