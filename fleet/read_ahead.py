"""Messages are read while the turn before is at work: much of what that does is done by the database, which needs no
interpreter."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from fleet.inbox import Batch, Message, read_batch

MANY = 2000
"""Messages that are read together; fewer are left to the next turn."""
LOOK_S = 0.01
MOST = 50_000
"""Messages of a turn, some seconds of work: of many at once each one takes less, as they are worked on as arrays."""


class ReadAhead:
    """The messages of a link, in order. `messages` grows meanwhile by another thread."""

    def __init__(self, messages: deque[Message]) -> None:
        self._messages = messages
        self._read: deque[tuple[list[Message], Batch | None]] = deque()

    def __len__(self) -> int:
        return len(self._messages) + self._count()

    def take(self) -> tuple[list[Message], Batch | None]:
        """All that wait, `MOST` or a few more, and what they say: None where something nobody foresaw came of reading
        them."""
        messages: list[Message] = []
        batch: Batch | None = Batch()
        while self._read and len(messages) < MOST:
            part, said = self._read.popleft()
            messages += part
            batch = batch.join(said) if batch is not None and said is not None else None
        rest = self._pop(MOST - len(messages))
        said = _read(rest)
        batch = batch.join(said) if batch is not None and said is not None else None
        return messages + rest, batch

    def put_back(self, messages: list[Message], batch: Batch | None) -> None:
        """What `take` gave could not be dealt with; it comes first again."""
        self._read.appendleft((messages, batch))

    @contextmanager
    def reading(self) -> Iterator[None]:
        """A block in which messages are read as they come, when they are many."""
        done = threading.Event()
        thread = threading.Thread(target=self._work, args=(done,), name="read-ahead", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _work(self, done: threading.Event) -> None:
        while not done.wait(LOOK_S):
            while len(self._messages) >= MANY and self._count() < MOST and not done.is_set():
                part = self._pop(MANY)
                self._read.append((part, _read(part)))

    def _count(self) -> int:
        return sum(len(part) for part, _ in self._read)

    def _pop(self, most: int) -> list[Message]:
        return [self._messages.popleft() for _ in range(min(len(self._messages), most))]


def _read(messages: list[Message]) -> Batch | None:
    with suppress(Exception):
        return read_batch(messages)
    return None  # it will be said when they are read one by one
