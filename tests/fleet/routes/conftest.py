"""Stores of both kinds with alerts in them, a dispatcher with a clock of its own, and a real HTTP receiver."""

from __future__ import annotations

import random
import threading
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec
import pytest
from sqlalchemy import create_engine, text

from device_agent.contract.alert import Alert
from fleet.alert_store import Change, write_changes
from fleet.routes.dispatch import Dispatcher
from fleet.routes.lane import Lane
from fleet.routes.memory import MemoryRoute
from fleet.routes.settings import RouteSettings, Wiring
from fleet.schema import METADATA
from fleet.store import open_store

NOW_MS = 1_760_000_000_000
ALERT = Alert(
    id="a1", severity="page", scope_kind="device", scope="cam-1", site="hall", product="tin", model="ab" * 8,
    stream="low+", opened_ms=NOW_MS, onset_ms=NOW_MS - 60_000, updated_ms=NOW_MS, paged_ms=NOW_MS,
    text="cam-1: low confidence 2.1x baseline (1.8 to 2.5)", cause="lens: dirt or focus (sharpness 410, was 800)",
    devices=["cam-1"], log_e=20.0,
)  # fmt: skip


@pytest.fixture
def alert_of() -> Callable[..., Alert]:
    """`alert_of(id="a2", severity="warn")`: an alert, with changes."""
    return lambda **changes: msgspec.structs.replace(ALERT, **changes)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def engine(request, tmp_path):
    """A store of either kind."""
    if request.param == "sqlite":
        yield open_store(f"sqlite:///{tmp_path / 'fleet.db'}", create=True)
        return
    url = request.getfixturevalue("postgres_url")
    name = f"t{uuid.uuid4().hex}"
    with create_engine(url, isolation_level="AUTOCOMMIT").connect() as tx:
        tx.execute(text(f"create database {name}"))
    made = create_engine(url.rpartition("/")[0] + f"/{name}")
    METADATA.create_all(made)
    yield made
    made.dispose()


class Desk:
    """A dispatcher over memory routes that take notices at once, and a clock that is set by hand."""

    def __init__(self, engine, *routes: RouteSettings, owner: str = "one", start=lambda work: work()) -> None:
        self.engine, self.now_ms, self.said = engine, NOW_MS, []
        self.routes = {settings.name: MemoryRoute(Wiring(settings=settings, url="")) for settings in routes}
        self.lanes = [
            Lane(settings, lambda s=settings: self.routes[s.name], start=start, clock_s=lambda: self.now_ms / 1000)
            for settings in routes
        ]
        self.owner = owner
        self.dispatcher = self.anew()

    def anew(self) -> Dispatcher:
        """Another dispatcher on the same store, as after a restart."""
        self.dispatcher = Dispatcher(
            self.engine, self.lanes, owner=self.owner, rng=random.Random(1), say=self.said.append,
            clock_ms=lambda: self.now_ms,
        )  # fmt: skip
        return self.dispatcher

    def change(self, *changes: tuple[Alert, str]) -> None:
        """Store changes of alerts, as ingest does."""
        with self.engine.begin() as tx:
            write_changes(tx, [Change(alert, what) for alert, what in changes])

    def turn(self, times: int = 3, *, step_ms: int = 500) -> None:
        """Some turns, and time that goes by after each."""
        for _ in range(times):
            self.dispatcher.turn()
            self.now_ms += step_ms

    def told(self, route: str) -> list[tuple[str, str]]:
        """What a route was told: (what, alert id)."""
        return [(item.what, item.alert.id) for notice in self.routes[route].taken for item in notice.items]


@pytest.fixture
def desk(engine) -> Callable[..., Desk]:
    """`desk(RouteSettings(...), ...)`."""
    return lambda *routes, **options: Desk(engine, *routes, **options)


@pytest.fixture
def desk_of() -> type[Desk]:
    """`desk_of(engine, RouteSettings(...), ...)`, for a store of the test's own."""
    return Desk


class Receiver:
    """An HTTP server: `requests` are (path, headers, body); `answer(path, headers, body)` gives status and headers."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.answer: Callable[..., tuple[int, dict[str, str]]] = lambda *_: (200, {})
        receiver = self

        class Answer(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                receiver.requests.append((self.path, dict(self.headers), body))
                status, headers = receiver.answer(self.path, dict(self.headers), body)
                self.send_response(status)
                for name, value in {"Content-Length": "0", **headers}.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)

    @property
    def port(self) -> int:
        return self.server.server_address[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/alerts-in"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A real HTTP server of the test's own."""
    made = Receiver()
    made.thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
