"""A network between agents and the broker that can be slow, stand still, or end: a TCP proxy in a thread of its own."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from fleet.chaos.programs import HOST

Found = TypeVar("Found")


class Network:
    """The thread in which proxies run; `close` ends them all."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="network", daemon=True)
        self._thread.start()
        self.proxies: list[Proxy] = []

    def proxy(self, port: int, *, host: str = HOST, seed: int = 0) -> Proxy:
        """A new way to `port` of this machine; it listens on a free port of `host`."""
        proxy = Proxy(self, port, host, random.Random(seed))
        self.run(proxy.open())
        self.proxies.append(proxy)
        return proxy

    def run(self, work: Coroutine[Any, Any, Found]) -> Found:
        """The result of a coroutine."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def call(self, work: Callable[[], None]) -> None:
        """Have something done in the thread."""
        self._loop.call_soon_threadsafe(work)

    def close(self) -> None:
        """End every connection and the thread."""

        async def end() -> None:
            for proxy in self.proxies:
                proxy.end()
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self.run(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


class _Way:
    """One connection; `dead`: both ends hold it open, and nothing passes any more."""

    def __init__(self, writers: list[asyncio.StreamWriter]) -> None:
        self.writers, self.dead = writers, False

    def cut(self) -> None:
        for writer in self.writers:
            with suppress(Exception):
                writer.transport.abort()


class Proxy:
    """One agent's way to the broker. `port` is where to connect; `opened` counts the connections so far."""

    def __init__(self, network: Network, target: int, host: str, rng: random.Random) -> None:
        self._network, self._target, self._host, self._rng = network, target, host, rng
        self._ways: set[_Way] = set()
        self._server: asyncio.Server | None = None
        self.port, self.opened = 0, 0
        self.delay_s = self.loss = 0.0
        self.stalled = False

    async def open(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._connect, self._host, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def end(self) -> None:
        """Listen no more, and end every connection."""
        if self._server is not None:
            self._server.close()
        self._cut()

    def cut(self) -> None:
        """End every connection with a reset."""
        self._network.call(self._cut)

    def half_open(self) -> None:
        """Let nothing pass any more on the connections of now, which stay open; new ones are sound."""

        def mark() -> None:
            for way in self._ways:
                way.dead = True

        self._network.call(mark)

    def _cut(self) -> None:
        for way in self._ways:
            way.cut()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        way = _Way([writer])
        self._ways.add(way)
        try:
            there, back = await asyncio.open_connection(HOST, self._target)
            way.writers.append(back)
            await asyncio.gather(self._pump(way, reader, back), self._pump(way, there, writer))
        except OSError:  # the broker is not there
            pass
        finally:
            way.cut()
            self._ways.discard(way)

    async def _pump(self, way: _Way, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry bytes until one side ends; the other then ends too, unless the way is dead."""
        with suppress(OSError):
            while content := await reader.read(1 << 16):
                while self.stalled and not way.dead:
                    await asyncio.sleep(0.05)
                if way.dead:
                    continue
                wait_s = self.delay_s + (self._rng.uniform(0.2, 1.2) if self._rng.random() < self.loss else 0.0)
                if wait_s:
                    await asyncio.sleep(wait_s)
                writer.write(content)
                await writer.drain()
        if not way.dead:
            way.cut()
