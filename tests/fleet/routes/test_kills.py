"""A dispatcher that is killed at any moment: every alert arrives, and what comes twice can be told by its id."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter

import msgspec
import pytest
from sqlalchemy import func, select

from fleet.alert_store import Change, write_changes
from fleet.schema import DELIVERY
from fleet.store import open_store

KILLS = 8


@pytest.fixture
def run_routes(tmp_path, receiver):
    """`run_routes()`: a dispatcher of a store with one webhook, in a process of its own; `url` of the store."""
    url = f"sqlite:///{tmp_path / 'fleet.db'}"
    routes = tmp_path / "routes.toml"
    routes.write_text(f"[[route]]\nname='mes'\nkind='webhook'\nurl='{receiver.url}'\nmost_a_minute=6000\n"
                      "digest_over=1\ntimeout_s=5\n")  # fmt: skip
    started = []

    def start():
        command = [sys.executable, "-m", "fleet.cli", "routes", "run", str(routes), "--store", url]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
        started.append(process)
        assert "delivering alerts on 1 routes" in process.stderr.readline()
        return process

    start.url = url
    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stderr.close()


def told(receiver):
    """How often each alert was told open, and the ids under which."""
    ids = {}
    for _, _, body in list(receiver.requests):
        notice = json.loads(body)
        for item in notice["items"]:
            ids.setdefault(item["alert"]["id"], []).append(notice["id"])
    return ids


def written_down(engine):
    """How many alerts the store knows to be told, with nothing left to do."""
    with engine.connect() as tx:
        asked = select(func.count()).where(DELIVERY.c.told_ms.is_not(None), DELIVERY.c.due_ms.is_(None))
        return tx.scalar(asked)


@pytest.mark.slow
def test_every_alert_arrives_whatever_is_killed(run_routes, receiver, alert_of, eventually):
    engine, rng = open_store(run_routes.url, create=True), random.Random(11)
    wait = threading.Event()
    receiver.answer = lambda *_: (wait.wait(0.05), (200, {}))[1]
    expected = 0
    for _ in range(KILLS):
        process = run_routes()
        for _ in range(5):
            expected += 1
            with engine.begin() as tx:
                write_changes(tx, [Change(alert_of(id=f"k{expected}"), "opened")])
            wait.wait(rng.uniform(0.0, 0.3))
        eventually(lambda first=expected - 4: f"k{first}" in told(receiver), 30)
        wait.wait(rng.uniform(0.0, 0.2))
        process.send_signal(signal.SIGKILL)
        process.wait()
        with engine.begin() as tx:
            tx.exec_driver_sql("update route_lease set until_ms = 0")  # or the next one would wait for 30 s
    last = run_routes()
    eventually(lambda: written_down(engine) == expected, 45)
    assert len(told(receiver)) == expected
    last.send_signal(signal.SIGTERM)
    assert last.wait(20) == 0
    again = sum(len(ids) - 1 for ids in told(receiver).values())
    assert again <= 6 * KILLS, Counter(len(ids) for ids in told(receiver).values())
    quiet = len(receiver.requests)
    final = run_routes()
    wait.wait(2)
    final.send_signal(signal.SIGTERM)
    assert final.wait(20) == 0 and len(receiver.requests) == quiet, "nothing is told again after a start in order"


def test_an_end_in_order_hands_over_at_once(run_routes, receiver, alert_of, eventually):
    engine = open_store(run_routes.url, create=True)
    for number in (1, 2):
        process = run_routes()
        with engine.begin() as tx:
            write_changes(tx, [Change(msgspec.structs.replace(alert_of(), id=f"k{number}"), "opened")])
        eventually(lambda number=number: f"k{number}" in told(receiver), 20)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert sum(map(len, told(receiver).values())) == 2
