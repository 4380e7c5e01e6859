"""Messages are read while a turn is at work: none is lost, none is twice, all are in order."""

from __future__ import annotations

import threading
import time
from collections import deque

import pytest

import fleet.read_ahead
from fleet.read_ahead import ReadAhead


@pytest.fixture
def many(monkeypatch):
    """Ten messages are many."""
    monkeypatch.setattr(fleet.read_ahead, "MANY", 10)


def test_what_is_read_meanwhile_comes_first_and_in_order(plant, many, eventually):
    speaker, messages = plant.speaker("press-1"), deque()
    ahead = ReadAhead(messages)
    sent = [speaker.message(speaker.report()) for _ in range(57)]
    with ahead.reading():
        messages.extend(sent[:35])
        eventually(lambda: len(messages) == 5)
        assert threading.active_count() > 1
    messages.extend(sent[35:])
    assert len(ahead) == 57
    taken, batch = ahead.take()
    assert taken == sent and [one.report.sequence for one in batch.reports] == list(range(1, 58))
    assert not ahead and ahead.take()[0] == []


def test_few_are_left_to_the_next_turn(plant, many):
    speaker, messages = plant.speaker("press-1"), deque()
    with (ahead := ReadAhead(messages)).reading():
        messages.extend(speaker.message(speaker.report()) for _ in range(9))
        time.sleep(5 * fleet.read_ahead.LOOK_S)
    assert len(messages) == len(ahead) == 9


def test_what_is_put_back_comes_first_again(plant, many, eventually):
    speaker, messages = plant.speaker("press-1"), deque()
    ahead = ReadAhead(messages)
    sent = [speaker.message(speaker.report()) for _ in range(30)]
    messages.extend(sent[:12])
    taken, batch = ahead.take()
    with ahead.reading():
        messages.extend(sent[12:])
        eventually(lambda: len(messages) < 10)
    ahead.put_back(taken, batch)
    again, batch = ahead.take()
    assert again == sent and [one.report.sequence for one in batch.reports] == list(range(1, 31))


def test_reading_that_fails_loses_nothing(plant, many, monkeypatch, eventually):
    speaker, messages = plant.speaker("press-1"), deque()
    ahead = ReadAhead(messages)
    sent = [speaker.message(speaker.report()) for _ in range(25)]
    with monkeypatch.context() as broken:
        broken.setattr(fleet.read_ahead, "read_batch", lambda _messages: 1 / 0)
        with ahead.reading():
            messages.extend(sent)
            eventually(lambda: len(messages) == 5)
    assert ahead.take() == (sent, None), "they are for who finds out which of them it is"


def test_no_more_than_a_turn_takes_is_read(plant, many, monkeypatch, eventually):
    monkeypatch.setattr(fleet.read_ahead, "MOST", 20)
    speaker, messages = plant.speaker("press-1"), deque()
    ahead = ReadAhead(messages)
    messages.extend(speaker.message(speaker.report()) for _ in range(70))
    with ahead.reading():
        eventually(lambda: len(messages) == 50)
        time.sleep(5 * fleet.read_ahead.LOOK_S)
    assert [len(ahead.take()[0]) for _ in range(5)] == [20, 20, 20, 10, 0]
