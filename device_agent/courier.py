"""The thread that owns spool and uplink, so that inference never waits for a disk or a network."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import NamedTuple, Protocol

from device_agent.config import Timing
from device_agent.contract.control import Response
from device_agent.contract.errors import NotWritable
from device_agent.contract.report import DeviceReport
from device_agent.contract.review import Sample
from device_agent.contract.session import Birth
from device_agent.mqtt import (
    Acknowledged,
    CommandReceived,
    ConfigReceived,
    Connected,
    Disconnected,
    News,
    Rejected,
)
from device_agent.uplink import Uplink

TICK_S = 0.2
MOST_ASKED = 256
MOST_EARLY = 8  # messages of the fleet that are kept until somebody listens


class Told(NamedTuple):
    """An event that was logged, for the monitor."""

    kind: str
    text: str


class Asks(Protocol):
    """Hears what the fleet asks, see `remote.Remote`."""

    def config(self, payload: bytes) -> None:
        """A configuration."""
        ...

    def command(self, payload: bytes, *, retained: bool) -> None:
        """A command."""
        ...


class _Listen(NamedTuple):
    asks: Asks


class _Stop(NamedTuple):
    timeout_s: float


Given = DeviceReport | Birth | Sample | Response | Timing | Told
Item = News | Given | _Listen | _Stop


class Courier:
    """Takes reports, births and events from any thread and news from the link; the uplink hears them one by one."""

    def __init__(self, turned: Callable[[Uplink], None] = lambda _uplink: None) -> None:
        self._turned = turned
        self._inbox: SimpleQueue[Item] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lost = ""
        self._asks: Asks | None = None
        self._early: deque[ConfigReceived | CommandReceived] = deque(maxlen=MOST_EARLY)

    @property
    def broken(self) -> bool:
        """Did the thread end by itself? Only a bug does that; its traceback is on stderr."""
        return self._thread is not None and not self._thread.is_alive()

    def put(self, item: News | Given) -> None:
        """Hand over an item; returns at once. What the fleet asks is left out while over 256 items wait."""
        if isinstance(item, ConfigReceived | CommandReceived) and self._inbox.qsize() > MOST_ASKED:
            return
        self._inbox.put(item)

    def start(self, make_uplink: Callable[[], Uplink]) -> None:
        """Begin. `make_uplink` has been called when this returns; what it raises is raised here."""
        uplink = make_uplink()
        self._thread = threading.Thread(target=self._run, args=(uplink,), name="courier", daemon=True)
        self._thread.start()

    def _run(self, uplink: Uplink) -> None:
        while True:
            self._turned(uplink)
            try:
                item = self._inbox.get(timeout=TICK_S)
            except Empty:
                uplink.tick()
                continue
            if isinstance(item, _Stop):
                self._lost = uplink.close(item.timeout_s)
                return
            self._deal(item, uplink)
            uplink.tick()

    def listen(self, asks: Asks) -> None:
        """Hand over what the fleet asks from now on; called from this courier's thread alone. What came just before is
        not lost."""
        self._inbox.put(_Listen(asks))

    def _deal(self, item: News | Given | _Listen, uplink: Uplink) -> None:
        if isinstance(item, _Listen):
            self._asks = item.asks
            while self._early:
                dispatch(self._early.popleft(), uplink, self._asks)
        elif isinstance(item, ConfigReceived | CommandReceived) and self._asks is None:
            self._early.append(item)
        else:
            dispatch(item, uplink, self._asks)

    def stop(self, timeout_s: float = 2.0) -> None:
        """Deliver what was put so far: into the spool, and to the broker if it takes it within the time.

        Raises:
            NotWritable: the spool could not take it; the sentence says how many reports are lost.
        """
        if self._thread is not None:
            self._inbox.put(_Stop(timeout_s))
            self._thread.join(timeout_s + 8.0)
            self._thread = None
        if self._lost:
            raise NotWritable(self._lost)


def dispatch(item: News | Given, uplink: Uplink, asks: Asks | None = None) -> None:
    """Call the method of the uplink that the item is for."""
    if isinstance(item, DeviceReport):
        uplink.report(item)
    elif isinstance(item, Birth):
        uplink.serves(item)
    elif isinstance(item, Told):
        uplink.tell(item.kind, item.text)
    elif isinstance(item, Sample):
        uplink.sample(item)
    elif isinstance(item, Response):
        uplink.respond(item)
    elif isinstance(item, Timing):
        uplink.retime(item)
    elif isinstance(item, Connected):
        uplink.connected()
    elif isinstance(item, Disconnected):
        uplink.disconnected(item.why, refused=item.refused)
    elif isinstance(item, Acknowledged):
        uplink.acknowledged(item.payload)
    elif isinstance(item, ConfigReceived) and asks is not None:
        asks.config(item.payload)
    elif isinstance(item, CommandReceived) and asks is not None:
        asks.command(item.payload, retained=item.retained)
    elif isinstance(item, Rejected):
        uplink.rejected(item.why)
