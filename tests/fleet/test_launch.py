"""The process of the page: watched, started again, and given up only with the monitor."""

from __future__ import annotations

import socket
import sys

import pytest

from fleet.launch import PageProcess


@pytest.fixture
def page():
    """A page that ends by itself at once, with a clock that the test sets, and what was said of it."""
    said, now = [], [0.0]
    with socket.socket() as listener:
        process = PageProcess([sys.executable, "-c", "raise SystemExit(3)"], listener, said.append, lambda: now[0])
        yield process, now, said
        process.close()


def ends(process):
    process.child.wait()
    process.tend()
    return process.child


def test_a_page_that_ends_is_said_once_and_started_again_ever_later(page):
    process, now, said = page
    first = ends(process)
    process.tend()
    assert process.child is first, "it waits before it starts again"
    now[0] += 1
    process.tend()
    second = process.child
    assert second is not first
    ends(process)
    now[0] += 1
    process.tend()
    assert process.child is second, "twice as long by now"
    now[0] += 1
    process.tend()
    assert process.child is not second
    assert said == ["the page ended by itself (exit code 3); starting it again"]


def test_a_page_that_cannot_be_started_does_not_end_the_monitor(page, monkeypatch):
    process, now, said = page
    ends(process)

    def no_memory(*_args, **_options):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    with monkeypatch.context() as patch:
        patch.setattr("subprocess.Popen", no_memory)
        now[0] += 1
        process.tend()
    assert said[-1] == "the page cannot be started: resource temporarily unavailable; trying again"
    gone = process.child
    now[0] += 60
    process.tend()
    assert process.child is not gone


def test_a_page_that_runs_is_left_alone():
    said = []
    with socket.socket() as listener:
        command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
        process = PageProcess(command, listener, said.append, lambda: 0.0)
        child = process.child
        process.tend()
        assert process.child is child and child.poll() is None
        process.close()
    assert child.returncode == 0 and said == []
