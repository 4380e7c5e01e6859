"""Lines for people and programs; systemd's journal gets a priority with each."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from device_agent.journal import open_journal


@pytest.fixture
def stream(tmp_path):
    with (tmp_path / "log").open("w") as found:
        yield found


def text_of(stream) -> str:
    return Path(stream.name).read_text()


@pytest.mark.parametrize("as_json", [True, False])
def test_the_journal_gets_priorities_and_a_file_none(stream, monkeypatch, as_json):
    found = os.fstat(stream.fileno())
    monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
    log = open_journal(as_json=as_json, stream=stream, wall=lambda: 0.0)
    log("camera_lost", "silent\nfor 5 s")
    log("serving", "steel")
    first, second = text_of(stream).splitlines()
    assert first.startswith("<4>") and second.startswith("<6>")
    if as_json:
        assert json.loads(first[3:]) == {
            "time": "1970-01-01T00:00:00Z",
            "event": "camera_lost",
            "text": "silent for 5 s",
        }


@pytest.mark.parametrize("value", ["", "1:2", "nonsense", ":", "1:2:3"])
def test_a_stream_that_is_not_the_journal_is_left_as_it_is(stream, monkeypatch, value):
    monkeypatch.setenv("JOURNAL_STREAM", value)
    open_journal(as_json=False, stream=stream, wall=lambda: 0.0)("camera_lost", "x")
    assert text_of(stream) == "1970-01-01T00:00:00Z camera_lost: x\n"


def test_lines_of_many_threads_stay_whole(stream):
    log = open_journal(as_json=True, stream=stream)
    threads = [threading.Thread(target=lambda k=k: [log("kind", "x" * 500) for _ in range(50)]) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(json.loads(line)["text"]) for line in text_of(stream).splitlines()] == [500] * 200
