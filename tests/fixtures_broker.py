"""Brokers on a port of their own: `mosquitto` (a system program, a new one for each test) and `amqtt_broker`."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

Found = TypeVar("Found")
Eventually = Callable[..., object]
HOST = "127.0.0.1"


def wait_until(predicate: Callable[[], Found], timeout_s: float = 10.0, *, message: str = "") -> Found:
    """The first true result of `predicate`, asked every 10 ms; fails the test after `timeout_s`."""
    end = time.monotonic() + timeout_s
    while not (result := predicate()):
        if time.monotonic() >= end:
            pytest.fail(message or f"not true within {timeout_s:g} s: {getattr(predicate, '__name__', predicate)}")
        threading.Event().wait(0.01)
    return result


def unused_port() -> int:
    """A TCP port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def listening(port: int) -> bool:
    """Whether a connection to the port is taken."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


def find_mosquitto() -> str | None:
    """Path of the Mosquitto program; /usr/sbin is where Debian puts it, which is not in every PATH."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


class Mosquitto:
    """A Mosquitto without persistence. `start` after `kill` or `stop` takes the same port again."""

    def __init__(self, program: str, folder: Path, port: int, extra: str = "") -> None:
        self.program, self.folder, self.host, self.port = program, folder, HOST, port
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        user = "user root\n" if os.geteuid() == 0 else ""
        self.config = folder / "mosquitto.conf"
        self.config.write_text(
            f"listener {port} {HOST}\nallow_anonymous true\npersistence false\nset_tcp_nodelay true\n{user}{extra}"
        )

    @property
    def url(self) -> str:
        """As the command lines take it."""
        return f"mqtt://{self.host}:{self.port}"

    def start(self) -> None:
        """Running and taking connections when this returns."""
        with (self.folder / "mosquitto.log").open("ab") as log:
            process = subprocess.Popen([self.program, "-c", str(self.config)], stdout=log, stderr=log)
        self.process = process
        wait_until(lambda: listening(self.port) or process.poll() is not None, message="mosquitto does not listen")
        if process.poll() is not None:
            pytest.fail(f"mosquitto ended at once:\n{(self.folder / 'mosquitto.log').read_text()}")

    def kill(self) -> None:
        """SIGKILL, as a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM: clients are told."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(5)
            self.process = None


class Amqtt:
    """The broker of the `demo` extra in a thread of this process; speaks MQTT 3.1.1 only."""

    def __init__(self, port: int) -> None:
        self.host, self.port = HOST, port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="amqtt", daemon=True)

    @property
    def url(self) -> str:
        """As the command lines take it."""
        return f"mqtt://{self.host}:{self.port}"

    def start(self) -> None:
        """Taking connections when this returns."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(10)

    async def _open(self) -> None:
        from amqtt.broker import Broker

        listener = {"type": "tcp", "bind": f"{HOST}:{self.port}", "max_connections": 100}
        plugins = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
        self._broker = Broker({"listeners": {"default": listener}, "plugins": plugins})
        await self._broker.start()

    def stop(self) -> None:
        """Ended, with the thread joined."""
        asyncio.run_coroutine_threadsafe(self._broker.shutdown(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


@pytest.fixture
def eventually() -> Eventually:
    """`eventually(predicate, timeout_s=10, message="")`: polls, returns the first true result, fails in the end."""
    return wait_until


@pytest.fixture
def free_port() -> int:
    """A TCP port that nothing listens on."""
    return unused_port()


@pytest.fixture
def mosquitto_program() -> str:
    """Path of the Mosquitto program; skips the test where there is none."""
    program = find_mosquitto()
    if program is None:
        pytest.skip("system: mosquitto not found")
    return program


@pytest.fixture
def mosquitto(mosquitto_program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    """A running Mosquitto of the test's own."""
    broker = Mosquitto(mosquitto_program, tmp_path_factory.mktemp("mosquitto"), unused_port())
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture
def amqtt_broker() -> Iterator[Amqtt]:
    """A running amqtt of the test's own."""
    pytest.importorskip("amqtt", reason="package: amqtt not installed")
    broker = Amqtt(unused_port())
    broker.start()
    yield broker
    broker.stop()
