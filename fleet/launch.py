"""Starting and ending the monitor: everything that can be refused is refused before anything starts."""

from __future__ import annotations

import errno
import gc
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Engine

from device_agent.contract.broker import Broker
from device_agent.contract.errors import BadInput
from device_agent.contract.optional import require
from fleet.detector_fleet import Settings
from fleet.diagnostics.watching import check_tests
from fleet.ingest import Ingest
from fleet.leases import Alone, Leases, worker_name
from fleet.link import Link
from fleet.operations.health import Pulse
from fleet.operations.listener import listening
from fleet.operations.metrics import Turn, WorkerMetrics
from fleet.page_ledger import write_dial
from fleet.retention import Limits
from fleet.routes.run import delivering
from fleet.service import Announce, Monitor
from fleet.store import one_writer, open_store, shown

FREE_S = 1.0
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0


class Page(NamedTuple):
    """Where the page listens, and names under which browsers may ask for it, see `fleet.web.hosts`."""

    host: str
    port: int
    names: tuple[str, ...] = ()


def run_monitor(
    *,
    broker: Broker,
    store: str,
    page: Page | None,
    settings: Settings,
    hold_windows: int,
    client_id: str | None,
    announce: Announce,
    say: Callable[[str], None],
    metrics: tuple[str, int] | None = None,
    routes: Path | None = None,
    limits: Limits = Limits(),  # noqa: B008
    shards: Collection[int] = (),
    tests: Collection[str] = (),
) -> None:
    """Serve until SIGINT or SIGTERM; `metrics` is where metrics and health are to be had, `routes` the file that says
    who is told of alerts, `limits` how long what is kept, `shards` those that this worker keeps to,
    `tests` the textbook tests that are shown.

    Raises:
        BadInput: a bad store URL, another monitor on this store, no such test, or a port that is taken.
    """
    check_tests(tests)
    engine = open_store(store, create=True)
    leases = _leases(engine, shards)
    with (
        one_writer(engine, among_others=leases.shared),
        _page(page, store, say) as tend,
        _metrics(metrics, engine, say) as observe,
        _ending() as stop,
        delivering(engine, routes, say=say),
    ):
        with engine.begin() as tx:
            write_dial(tx, settings.pages_a_week, _clock_ms())
        ingest = Ingest(
            engine, settings, hold_windows=hold_windows, leases=leases, monotonic_ms=_monotonic_ms, tests=tests
        )
        link = Link(
            broker,
            client_id=client_id or "-".join(filter(None, ("lineside-fleet", leases.worker))),
            session=_clock_ms(),
            clock_ms=_clock_ms,
            say=say,
            shared=leases.shared,
        )
        say(
            f"watching {broker} into {shown(engine)}: {len(ingest.registry.devices)} devices known, "
            f"{len(ingest.fleet.models)} models, page at score {ingest.fleet.page_at:.1f}, "
            f"warn at {ingest.fleet.warn_at:.1f}"
        )
        monitor = Monitor(
            engine,
            ingest,
            link,
            announce=announce,
            say=say,
            clock_ms=_clock_ms,
            tend=tend,
            observe=observe,
            limits=limits,
        )
        with without_collector():
            monitor.run(stop)
        say("ended in order")
    engine.dispose()


def _leases(engine: Engine, shards: Collection[int]) -> Leases | Alone:
    if engine.dialect.name == "postgresql":
        return Leases(engine, worker_name(), only=shards)
    if shards:
        raise BadInput("--shards: an SQLite store has one worker; several need a PostgreSQL store")
    return Alone()


@contextmanager
def without_collector() -> Iterator[None]:
    """A block in which nobody looks for circular garbage: there is none worth it, and looking through everything that a
    large fleet keeps in memory, again and again, takes longer than all other work."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def listen(page: Page) -> socket.socket:
    """A socket that listens for the page. That of a monitor that was killed just now frees its port within `FREE_S`.

    Raises:
        BadInput: the port is taken, or the address is none of this machine.
    """
    end = time.monotonic() + FREE_S
    while True:
        try:
            family = socket.getaddrinfo(page.host, page.port, type=socket.SOCK_STREAM)[0][0]
            listener = socket.create_server((page.host, page.port), family=family, backlog=128)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and time.monotonic() < end:
                time.sleep(0.05)
                continue
            cause = (error.strerror or str(error)).lower().split(" (while")[0]
            raise BadInput(
                f"page: cannot listen on {page.host}:{page.port}: {cause}; give another --port, or 0"
            ) from None
        return listener


class PageProcess:
    """The page in a process of its own, so that drawing never slows ingest. It ends with this process, however that
    ends: its standard input is a pipe that closes then. Its socket stays open here, so that another one can follow it.
    """

    def __init__(
        self, command: list[str], listener: socket.socket, say: Callable[[str], None], clock_s: Callable[[], float]
    ) -> None:
        self._command, self._listener, self._say, self._clock_s = command, listener, say, clock_s
        self._wait_s, self._due_s = FIRST_WAIT_S, 0.0
        self._told = False
        self._start()

    def _start(self) -> None:
        self.child = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, pass_fds=[self._listener.fileno()], start_new_session=True
        )
        self._ended, self._since_s = False, self._clock_s()

    def tend(self) -> None:
        """Start it again after it ended, ever later the sooner it ends; said once until it has held."""
        now_s, code = self._clock_s(), self.child.poll()
        if code is None:
            if now_s - self._since_s > LONGEST_WAIT_S:
                self._wait_s, self._told = FIRST_WAIT_S, False
        elif not self._ended:
            self._ended, self._due_s = True, now_s + self._wait_s
            self._wait_s = min(2 * self._wait_s, LONGEST_WAIT_S)
            if not self._told:
                self._say(f"the page ended by itself (exit code {code}); starting it again")
                self._told = True
        elif now_s >= self._due_s:
            self.close()
            try:
                self._start()
            except OSError as error:  # no memory for a process: the monitor goes on without the page
                self._due_s = now_s + self._wait_s
                self._say(f"the page cannot be started: {(error.strerror or str(error)).lower()}; trying again")

    def close(self) -> None:
        """End it."""
        if self.child.stdin:
            self.child.stdin.close()
        try:
            self.child.wait(5)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()


@contextmanager
def _page(page: Page | None, store: str, say: Callable[[str], None]) -> Iterator[Callable[[], None]]:
    """The page while the block runs; what comes out is to be called every turn."""
    if page is None:
        yield lambda: None
        return
    require("nicegui", extra="fleet")
    with listen(page) as listener:
        command = [sys.executable, "-m", "fleet.web", str(listener.fileno()), store, page.host, *page.names]
        process = PageProcess(command, listener, say, time.monotonic)
        say(f"page at http://{page.host}:{page.port}")
        try:
            yield process.tend
        finally:
            process.close()


@contextmanager
def _metrics(
    listen: tuple[str, int] | None, engine: Engine, say: Callable[[str], None]
) -> Iterator[Callable[[Turn], None]]:
    """Metrics and health while the block runs; what comes out is to be called with every turn."""
    if listen is None:
        yield lambda _turn: None
        return
    counted, pulse = WorkerMetrics(), Pulse()
    counted.add_fleet(engine, clock_ms=_clock_ms)

    def observe(turn: Turn) -> None:
        counted.turned(turn)
        pulse.turned(connected=turn.connected, failing=turn.failing)

    with listening(*listen, counted.exposition, pulse.health) as (host, port):
        say(f"metrics at http://{host}:{port}/metrics")
        yield observe


@contextmanager
def _ending() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set."""
    stop = threading.Event()
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in signals}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _monotonic_ms() -> float:
    return time.monotonic() * 1000


def _clock_ms() -> int:
    return time.time_ns() // 1_000_000
