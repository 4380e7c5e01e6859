"""Delivery as it runs: routes of a file, a turn every half second, in this process or beside the monitor."""

from __future__ import annotations

import os
import random
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sqlalchemy import Engine

from device_agent.contract.errors import NotWritable
from fleet.routes.dispatch import Dispatcher
from fleet.routes.lane import Lane
from fleet.routes.settings import RouteSettings, make_route, read_routes

TURN_S = 0.5
PATIENCE_S = 5.0


def open_lanes(
    path: Path,
    *,
    start: Callable[[Callable[[], None]], None] | None = None,
    clock_s: Callable[[], float] = time.monotonic,
) -> list[Lane]:
    """A lane for each route of a file, with its secrets read: what can be refused is refused here.

    Raises:
        BadInput, NotFound, MissingPackage: as for `read_routes` and `make_route`.
    """

    def maker(settings: RouteSettings) -> Lane:
        return Lane(settings, lambda: make_route(settings, path.parent), start=start or _thread, clock_s=clock_s)

    return [maker(settings) for settings in read_routes(path)]


def deliver(engine: Engine, path: Path, stop: threading.Event, *, say: Callable[[str], None]) -> None:
    """Deliver alerts until `stop` is set. Several processes may do so on one store: one of them works.

    Raises:
        BadInput, NotFound, MissingPackage: as for `open_lanes`, before anything is sent.
    """
    lanes = open_lanes(path)
    say(f"delivering alerts on {len(lanes)} routes of {path}")
    _turns(_dispatcher(engine, lanes, say), stop)


@contextmanager
def delivering(engine: Engine, path: Path | None, *, say: Callable[[str], None]) -> Iterator[None]:
    """Deliver alerts in a thread while the block runs; with no file of routes nothing is done.

    Raises:
        BadInput, NotFound, MissingPackage: as for `open_lanes`, before the block.
    """
    if path is None:
        yield
        return
    stop, dispatcher = threading.Event(), _dispatcher(engine, open_lanes(path), say)
    thread = threading.Thread(target=_turns, args=(dispatcher, stop), name="routes", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(PATIENCE_S + 1)


def _dispatcher(engine: Engine, lanes: list[Lane], say: Callable[[str], None]) -> Dispatcher:
    owner = f"{socket.gethostname()[:32]}:{os.getpid()}:{secrets.token_hex(4)}"
    return Dispatcher(engine, lanes, owner=owner, rng=random.Random(), say=say, clock_ms=_clock_ms)


def _turns(dispatcher: Dispatcher, stop: threading.Event) -> None:
    while not stop.is_set():
        dispatcher.turn()
        stop.wait(TURN_S)
    end_s = time.monotonic() + PATIENCE_S
    with suppress(NotWritable):
        while not dispatcher.settled() and time.monotonic() < end_s:  # what is taken now would be told again later
            time.sleep(0.02)
        dispatcher.close()


def _thread(work: Callable[[], None]) -> None:
    threading.Thread(target=work, name="route", daemon=True).start()


def _clock_ms() -> int:
    return time.time_ns() // 1_000_000
