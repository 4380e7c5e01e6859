"""Whoever reads the verdicts may be slow, stop or go: nothing waits for them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress

import msgspec
import pytest

from device_agent.contract.review import Verdict
from device_agent.outputs.printer import Printer

Eventually = Callable[..., object]


def verdict(frame: int) -> Verdict:
    return Verdict(frame, "good", "good", 0.9, 2.0, 0)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            continue


def test_what_was_put_is_written_at_the_end(pipe: tuple[int, int]) -> None:
    events: list[str] = []
    printer = Printer(pipe[1], lambda kind, _: events.append(kind))
    for frame in range(100):
        printer.put(verdict(frame))
    printer.close()
    lines = os.read(pipe[0], 1 << 16).splitlines()
    assert [msgspec.json.decode(line)["frame"] for line in lines] == list(range(100))
    assert events == []


def test_a_reader_that_stops_costs_verdicts_and_one_event(pipe: tuple[int, int], eventually: Eventually) -> None:
    events: list[str] = []
    os.set_blocking(pipe[1], False)
    with suppress(BlockingIOError):
        while True:
            os.write(pipe[1], b" " * 512)
    os.set_blocking(pipe[1], True)
    printer = Printer(pipe[1], lambda kind, _: events.append(kind), most=50)
    for frame in range(500):
        printer.put(verdict(frame))
    assert events == ["verdicts_dropped"]
    os.set_blocking(pipe[0], False)
    heard = bytearray()

    def read_on() -> bool:
        with suppress(BlockingIOError):
            heard.extend(os.read(pipe[0], 1 << 16))
        printer.put(verdict(500))
        return b'"frame":500,' in heard

    eventually(read_on)
    assert b'"frame":0,' in heard and b'"frame":499,' not in heard


def test_a_full_pipe_that_does_not_block_is_waited_for(pipe: tuple[int, int], eventually: Eventually) -> None:
    events: list[str] = []
    os.set_blocking(pipe[1], False)
    with suppress(BlockingIOError):
        while True:
            os.write(pipe[1], b" " * 512)
    printer = Printer(pipe[1], lambda kind, _: events.append(kind))
    printer.put(verdict(7))
    os.set_blocking(pipe[0], False)
    eventually(printer._waiting.empty)
    heard = bytearray()

    def read_on() -> bool:
        with suppress(BlockingIOError):
            heard.extend(os.read(pipe[0], 1 << 12))
        return b'"frame":7,' in heard or bool(events)

    eventually(read_on)
    assert events == []


def test_a_reader_that_goes_is_an_event_and_nothing_more_is_written(
    pipe: tuple[int, int], eventually: Eventually
) -> None:
    events: list[tuple[str, str]] = []
    printer = Printer(pipe[1], lambda *one: events.append(one))
    os.close(pipe[0])
    for frame in range(10):
        printer.put(verdict(frame))
    eventually(lambda: events)
    for frame in range(10):
        printer.put(verdict(frame))
    printer.close()
    assert events == [("verdicts_ended", "no further ones are written: broken pipe")]
