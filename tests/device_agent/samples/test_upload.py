"""Samples leave when the monitor has them, and whatever it says stops nothing."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from device_agent.contract.codec import SCHEMA
from device_agent.contract.review import Sample
from device_agent.samples.request import Fate, Outcome
from device_agent.samples.seal import MAGIC, Head, encode
from device_agent.samples.store import Caps, Clocks, Store
from device_agent.samples.upload import Uploader

Eventually = Callable[..., object]
STORED, REFUSED = Outcome(Fate.STORED), Outcome(Fate.REFUSED, "too long (413)")
SOON = Outcome(Fate.LATER, "the monitor does not answer", 0.0)


class Still(random.Random):
    """Waits nothing and counts what it was asked for."""

    def __init__(self) -> None:
        super().__init__(0)
        self.asked: list[tuple[float, float]] = []

    def uniform(self, a: float, b: float) -> float:
        self.asked.append((a, b))
        return 0.0


class Monitor:
    """Answers each attempt with the next outcome, at last with `STORED`."""

    def __init__(self, *answers: Outcome) -> None:
        self.answers, self.came = list(answers), []

    def __call__(self, name: str, content: bytes, stop: threading.Event) -> Outcome:
        self.came.append(name)
        return self.answers.pop(0) if self.answers else STORED


def sample(number: int) -> bytes:
    head = encode(Head(SCHEMA, "press-1", b"modelone", number, 51, "low", None, bytes(8)))
    return MAGIC + len(head).to_bytes(2, "big") + head + bytes(48)


@pytest.fixture
def events() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def store(tmp_path: Path, clock, events) -> Store:
    made = Store(tmp_path, Caps(1 << 20, 10**18, 100, 0), Clocks(clock, lambda: 0), lambda *one: events.append(one))
    for number in range(3):
        made.add(sample(number))
    return made


@pytest.fixture
def begin(store, events):
    begun: list[Uploader] = []

    def make(send: Monitor, rng: random.Random | None = None) -> list[Sample]:
        told: list[Sample] = []
        begun.append(
            Uploader(store, send, uploaded=told.append, event=lambda *one: events.append(one), rng=rng or Still())
        )
        return told

    yield make
    for each in begun:
        each.close()


def test_all_are_sent_oldest_first_and_each_is_told(begin, store, events, eventually: Eventually):
    monitor = Monitor()
    names = store.names()
    told = begin(monitor)
    eventually(lambda: len(told) == 3)
    assert monitor.came == names and len(store) == 0 and events == []
    assert told[1] == Sample(SCHEMA, b"modelone", 1, 51, bytes.fromhex(names[1]), "low")


def test_a_monitor_that_is_away_is_said_once_and_tried_with_growing_waits(begin, store, events, eventually: Eventually):
    away = Outcome(Fate.LATER, "the monitor does not answer")
    still = Still()
    told = begin(Monitor(*[away] * 12), still)
    eventually(lambda: len(told) == 3)
    assert [kind for kind, _ in events] == ["samples_not_sent", "samples_sent"]
    assert [high for _, high in still.asked] == [
        2.0,
        4.0,
        8.0,
        16.0,
        32.0,
        64.0,
        128.0,
        256.0,
        300.0,
        300.0,
        300.0,
        300.0,
    ]


def test_a_monitor_that_asks_for_time_gets_it(begin, store, eventually: Eventually):
    monitor = Monitor(Outcome(Fate.LATER, "the quota is used up (429)", 3600.0))
    begin(monitor)
    eventually(lambda: monitor.came)
    threading.Event().wait(0.1)
    assert len(monitor.came) == 1 and len(store) == 3


def test_a_refused_sample_is_said_once_kept_and_does_not_hold_up_the_others(
    begin, store, events, eventually: Eventually
):
    monitor = Monitor(REFUSED, REFUSED)
    names = store.names()
    told = begin(monitor)
    eventually(lambda: told)
    assert monitor.came == names and store.names() == names[:2]
    assert [kind for kind, _ in events] == ["samples_refused"]
    threading.Event().wait(0.05)
    assert len(monitor.came) == 3, "what is refused is not sent again"


def test_a_sample_that_comes_later_wakes_the_thread(begin, store, eventually: Eventually, events):
    told: list[Sample] = []
    uploader = Uploader(store, Monitor(), uploaded=told.append, event=lambda *one: events.append(one), rng=Still())
    eventually(lambda: len(told) == 3)
    store.add(sample(9))
    uploader.wake()
    eventually(lambda: len(told) == 4, timeout_s=4)
    uploader.close()


def test_an_end_is_not_waited_for(store, events, eventually: Eventually):
    monitor = Monitor(*[Outcome(Fate.LATER, "away", 3600.0)] * 9)
    uploader = Uploader(store, monitor, uploaded=lambda _: None, event=lambda *one: events.append(one), rng=Still())
    eventually(lambda: monitor.came)
    uploader.close()
    assert not uploader._thread.is_alive()
